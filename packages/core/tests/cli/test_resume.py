import json
import shutil
from pathlib import Path

import pytest

from rl_core.cli.train import placed
from rl_core.runs.metrics_file import read_rows
from rl_core.runs.sinks import CsvSink
from rl_core.runs.wandb_sink import WandbSink


def rows_of(run):
    return list(read_rows(Path(run) / "metrics.jsonl"))


def untimed(rows):
    return [
        {name: value for name, value in row.items() if "time" not in name and not name.endswith("_s")} for row in rows
    ]


def test_resumed_run_is_the_run_that_never_stopped(rl, small):
    for name, iterations in (("whole", 6), ("parts", 3)):
        rl("train", "ppo", "CartPole-v1", "--stop-iters", iterations, "--run-dir", name, *small)
    code, out, err = rl("resume", "parts", "--stop-iters", 6)
    assert code == 0, err
    assert "resuming from parts/checkpoints/iteration_000003" in out
    whole, parts = untimed(rows_of("whole")), untimed(rows_of("parts"))
    evaluated = {name for name in whole[0] if name.startswith("evaluation/")}  # the first part ended with an evaluation
    for row in whole + parts:
        for name in evaluated:
            del row[name]
    assert parts == whole


def test_rows_after_the_checkpoint_are_replaced(rl, trained):
    Path(trained, "checkpoints/iteration_000004").rename("elsewhere")
    code, _, err = rl("resume", trained, "--stop-iters", 5)
    assert code == 0, err
    assert [row["training_iteration"] for row in rows_of(trained)] == [1, 2, 3, 4, 5]


def test_damaged_newest_checkpoint_is_set_aside_and_the_one_before_is_used(rl, trained):
    weights = Path(trained, "checkpoints/iteration_000004/arrays.bin")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    code, out, err = rl("resume", trained, "--stop-iters", 5)
    assert code == 0, err
    assert "skipping a damaged checkpoint" in err
    assert "resuming from runs/one/checkpoints/iteration_000003" in out
    assert Path(trained, "checkpoints/iteration_000004.damaged/arrays.bin").exists()


def test_a_copied_run_writes_into_its_own_folder(rl, small):
    rl("train", "ppo", "CartPole-v1", "--stop-iters", 1, "--sink", "csv", "--run-dir", "first", *small)
    shutil.copytree("first", "second")
    before = Path("first/metrics.csv").read_text()
    code, out, err = rl("resume", "second", "--stop-iters", 2, "--json", "--set", "training.lr=1e-4")
    assert code == 0, err
    assert json.loads(out)["iteration"] == 2, "nothing else is printed there"
    assert "training.lr was 0.0003, is 0.0001 from here on" in err
    assert Path("first/metrics.csv").read_text() == before
    rows = Path("second/metrics.csv").read_text().splitlines()[1:]
    assert [float(row.split(",")[0]) for row in rows][-1] == 2


def test_only_files_of_the_command_follow_a_run(tmp_path):
    elsewhere = (CsvSink("metrics.csv"), CsvSink(str(tmp_path / "mine.csv")), WandbSink(), WandbSink(folder="there"))
    csv, wandb = CsvSink(str(tmp_path / "old/metrics.csv")), WandbSink(name="old", folder=str(tmp_path / "old"))
    new = tmp_path / "new"
    moved = (CsvSink(str(new / "metrics.csv")), WandbSink(name="old", folder=str(new)))
    assert placed([*elsewhere, csv, wandb], new) == (*elsewhere, *moved)


def test_limits_stay_unless_given_anew_and_count_from_the_beginning(rl, trained):
    before = rows_of(trained)
    code, out, _ = rl("resume", trained, "--json")
    assert code == 0
    assert json.loads(out)["iteration"] == 4, "the limit of 4 iterations is used up already"
    assert rows_of(trained) == before
    code, out, _ = rl("resume", trained, "--stop-iters", 6, "--json")
    assert json.loads(out)["iteration"] == 6


def test_settings_can_be_changed(rl, trained):
    code, out, err = rl("resume", trained, "--stop-iters", 5, "--set", "training.lr=0.01")
    assert code == 0, err
    assert "training.lr was 0.0003, is 0.01 from here on" in out
    assert rows_of(trained)[-1]["learner/default/lr"] == pytest.approx(0.01)
    assert json.loads(Path(trained, "config.json").read_text())["sections"]["training"]["lr"] == 0.01


def test_another_env_is_refused_and_nothing_changes(rl, trained):
    before = {path: path.read_bytes() for path in Path(trained).rglob("*") if path.is_file()}
    code, _, err = rl("resume", trained, "--set", "environment.env=Acrobot-v1")
    assert code == 2
    assert "was trained on CartPole-v1" in err
    assert "rl train ppo Acrobot-v1" in err
    assert {path: path.read_bytes() for path in Path(trained).rglob("*") if path.is_file()} == before


def test_a_run_without_checkpoint_says_so(rl, trained):
    Path(trained, "checkpoints").rename("elsewhere")
    code, _, err = rl("resume", trained)
    assert code == 2
    assert "has no checkpoint yet" in err
