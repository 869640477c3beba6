import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rl_core.errors import RunError
from rl_core.runs.folder import RunFolder, RunRecord, find_runs
from rl_core.runs.limits import Limits


def record(**changes):
    return RunRecord(**{"algorithm": "ppo", "env": "CartPole-v1", "seed": 0, "limits": Limits(reward=3.0), **changes})


def test_record_round_trips(tmp_path):
    folder = RunFolder.create(tmp_path / "a", record(started="2026-01-01T00:00:00"))
    assert RunFolder.open(tmp_path / "a").record == folder.record


def test_existing_folder_is_refused_unless_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "empty", record())
    with pytest.raises(RunError, match="never overwritten"):
        RunFolder.create(tmp_path / "empty", record())


@pytest.mark.parametrize("env", ["ALE/Pong-v5", "my_package.envs:Maze-v0", "../../etc", "a b"])
def test_reserved_folder_lies_in_its_root_and_numbers_go_on(tmp_path, env):
    first, second = (RunFolder.reserve("ppo", env, root=tmp_path) for _ in range(2))
    assert first.parent == second.parent == tmp_path
    assert (first.name[-2:], second.name[-2:]) == ("-1", "-2")
    (tmp_path / (first.name[:-1] + "9")).mkdir()
    assert RunFolder.reserve("ppo", env, root=tmp_path).name.endswith("-10")


def test_runs_started_together_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: RunFolder.reserve("ppo", "a", root=tmp_path / "runs"), range(40)))
    assert len(set(paths)) == 40


def test_checkpoints_are_newest_first(tmp_path):
    folder = RunFolder.create(tmp_path / "a", record())
    for iteration in (9, 10, 2, 1_000_000):
        (folder.checkpoints_path / f"iteration_{iteration:06d}").mkdir()
    (folder.checkpoints_path / ".iteration_000011.tmp").mkdir()
    assert [path.name for path in folder.checkpoints()] == [
        "iteration_1000000", "iteration_000010", "iteration_000009", "iteration_000002"
    ]  # fmt: skip


def test_damaged_checkpoint_is_set_aside_under_a_free_name(tmp_path):
    folder = RunFolder.create(tmp_path / "a", record())
    for expected in ("iteration_000001.damaged", "iteration_000001.damaged2"):
        damaged = folder.checkpoints_path / "iteration_000001"
        damaged.mkdir()
        assert folder.set_aside(damaged).name == expected
    assert folder.checkpoints() == []


def test_unused_folder_is_removed_and_foreign_files_stay(tmp_path):
    folder = RunFolder.create(tmp_path / "a", record())
    folder.remove_if_unused()
    assert not folder.path.exists()
    folder = RunFolder.create(tmp_path / "b", record())
    (folder.path / "mine.txt").write_text("x")
    folder.remove_if_unused()
    assert [path.name for path in folder.path.iterdir()] == ["mine.txt"]


def test_a_run_of_a_living_process_is_alive(tmp_path):
    def running(pid, host=None):
        return record(status="running", process={"pid": pid, "host": host or socket.gethostname()})

    assert running(os.getppid()).is_alive()
    assert not running(2**22 + 1).is_alive()
    assert not running(os.getppid(), host="elsewhere").is_alive()
    assert not record(status="finished").is_alive()


def test_find_runs_passes_over_what_is_no_run_and_names_what_is_damaged(tmp_path):
    for number in (10, 2):
        RunFolder.create(tmp_path / f"run-{number}", record())
    (tmp_path / "other").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/run.json").write_text("[]")
    RunFolder.create(tmp_path / "odd", record())
    odd = json.loads((tmp_path / "odd/run.json").read_text())
    (tmp_path / "odd/run.json").write_text(json.dumps(odd | {"started": None}))
    RunFolder.create(tmp_path / "run-2²", record())
    folders, problems = find_runs(tmp_path)
    assert [folder.path.name for folder in folders] == ["run-2", "run-2²", "run-10"]
    assert [Path(str(problem).split("/run.json")[0]).name for problem in problems] == ["broken", "odd"]
