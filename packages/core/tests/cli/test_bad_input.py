"""Every mistake ends with a clear error of one screen, without a traceback, and with nothing lost."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rl_core.errors import RunError
from rl_core.runs.folder import RunFolder, RunRecord
from rl_core.runs.limits import Limits


def check(result, *parts, code=2):
    """The command failed with an error that holds `parts`."""
    got, _, err = result
    assert got == code, err
    assert "error: " in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 24
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["trian", "ppo", "CartPole-v1"], ["no command 'trian'", "'rl train'"]),
        (["train", "pppo", "CartPole-v1"], ["no algorithm 'pppo'", "'ppo'"]),
        (["train", "ppo", "CartPole-v11"], ["CartPole-v11", "CartPole-v1"]),
        (["train", "ppo", "Cartpole"], ["Cartpole", "CartPole-v1"]),
        (["train", "ppo"], ["required", "ENV"]),
        (["train", "ppo", "CartPole-v1", "--stop-rewrd", "5"], ["--stop-rewrd", "--stop-reward"]),
        (["train", "ppo", "CartPole-v1", "--stop-reward", "high"], ["--stop-reward", "'high'", "a number"]),
        (["train", "ppo", "CartPole-v1", "--stop-reward", "nan"], ["--stop-reward", "finite"]),
        (["train", "ppo", "CartPole-v1", "--stop-timesteps", "0"], ["--stop-timesteps", "greater than 0"]),
        (["train", "ppo", "CartPole-v1", "--stop-iters", "1.5"], ["--stop-iters", "a whole number"]),
        (["train", "ppo", "CartPole-v1", "--seed", "-1"], ["--seed"]),
        (["train", "ppo", "CartPole-v1", "--set", "training.learning_rat=1"], ["training", "learning_rat"]),
        (["train", "ppo", "CartPole-v1", "--set", "training.gama=1"], ["gama", "'gamma'"]),
        (["train", "ppo", "CartPole-v1", "--set", "trainin.gamma=1"], ["trainin", "'training'"]),
        (["train", "ppo", "CartPole-v1", "--set", "training.gamma=big"], ["gamma", "'big'", "a number"]),
        (["train", "ppo", "CartPole-v1", "--set", "training.gamma=1.5"], ["gamma", "1.5", "<= 1"]),
        (["train", "ppo", "CartPole-v1", "--set", "training.gamma"], ["SECTION.NAME=VALUE"]),
        (["train", "ppo", "CartPole-v1", "--set", "environment.env=Acrobot-v1"], ["contradicts"]),
        (["train", "ppo", "CartPole-v1", "--set", 'reporting.sinks=["csv"]'], ["reporting.sinks", "--sink"]),
        (["resume", "nowhere"], ["nowhere", "does not exist", "rl list"]),
        (["evaluate", "nowhere"], ["nowhere", "neither a run nor a checkpoint"]),
        (["evaluate", "nowhere", "--episodes", "0"], ["--episodes", "greater than 0"]),
        (["record", "nowhere", "-o", "a.avi"], [".avi", ".mp4"]),
        (["record", "nowhere", "-o", "missing/a.mp4"], ["missing"]),
        (["plot", "nowhere", "-o", "a.png"], ["nowhere"]),
        (["plot", "nowhere", "-o", "a.txt"], [".txt", ".png"]),
        (["list", "nowhere"], ["nowhere"]),
    ],
)
def test_wrong_arguments(rl, arguments, parts):
    check(rl(*arguments), *parts)
    assert not Path("runs").exists() or not any(Path("runs").iterdir()), "a failed start leaves no folder behind"


@pytest.mark.parametrize("arguments", [("train", "ppo", "CartPole-v11", "--debug"), ("--debug", "list", "nowhere")])
def test_debug_shows_the_traceback(rl, arguments):
    code, _, err = rl(*arguments)
    assert code == 2
    assert "Traceback" in err


def test_a_folder_that_is_gone(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"rmdir {gone} && {sys.executable} -m rl_core.cli list"
    done = subprocess.run(["bash", "-c", command], cwd=gone, capture_output=True, text=True)
    check((done.returncode, done.stdout, done.stderr), "does not exist any more")


def test_a_damaged_run_is_not_listed_in_silence(rl):
    Path("runs/one").mkdir(parents=True)
    Path("runs/one/run.json").write_text("[]")
    code, out, err = rl("list")
    assert code == 0
    assert "no runs in runs" in out
    assert "warning: left out: runs/one/run.json cannot be read: it holds no JSON object" in err


def test_unexpected_error_exits_1_and_points_to_debug(rl, monkeypatch):
    monkeypatch.setattr("rl_core.runs.folder.find_runs", None)
    monkeypatch.setattr("rl_core.cli.list_runs.find_runs", None)
    Path("runs").mkdir()
    check(rl("list"), "TypeError", "--debug", code=1)


@pytest.mark.parametrize(
    ("env", "part"),
    [("Test/NanRewardEnv-v0", "reward"), ("Test/LeavingSpaceEnv-v0", "observation"), ("Test/RaisingEnv-v0", "crashed")],
)
def test_misbehaving_env(rl, small, env, part):
    check(rl("train", "ppo", env, "--run-dir", "one", *small), env.partition("/")[2].partition("-")[0], part)
    assert not Path("one").exists()


def test_env_that_misbehaves_only_while_training(rl, small):
    skipped = [*small, "--set", "environment.disable_env_checking=true"]
    check(rl("train", "ppo", "Test/RaisingEnv-v0", "--run-dir", "one", *skipped), "crashed", "no checkpoint yet")
    assert Path("one/run.json").exists()


class _TextEnv(gymnasium.Env):
    observation_space = gymnasium.spaces.Text(5)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return "", {}

    def step(self, action):
        return "", 0.0, True, False, {}


def test_unsupported_space(rl, small):
    gymnasium.register("Test/Text-v0", entry_point=_TextEnv)
    check(rl("train", "ppo", "Test/Text-v0", *small), "Text")


def test_non_finite_loss(rl, small):
    run = rl("train", "ppo", "CartPole-v1", "--run-dir", "one", *small, "--set", "training.lr=1e30", "--stop-iters", 20)
    check(run, "one")
    assert "nan" in run[2].lower() or "finite" in run[2].lower()


def test_existing_run_is_never_overwritten(rl, trained):
    before = {path: path.read_bytes() for path in Path(trained).rglob("*") if path.is_file()}
    check(rl("train", "ppo", "CartPole-v1", "--run-dir", trained), "never overwritten", "rl resume")
    assert {path: path.read_bytes() for path in Path(trained).rglob("*") if path.is_file()} == before


def test_run_folder_whose_place_is_a_file(rl):
    Path("taken").write_text("mine")
    check(rl("train", "ppo", "CartPole-v1", "--run-dir", "taken/run"), "cannot be written", "--run-dir")
    check(rl("train", "ppo", "CartPole-v1", "--run-dir", "taken"), "exists already")
    assert Path("taken").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_run_folder_without_permission(rl):
    Path("closed").mkdir(mode=0o500)
    check(rl("train", "ppo", "CartPole-v1", "--run-dir", "closed/run"), "cannot be written", "permission denied")


def test_write_error_is_a_run_error(monkeypatch, tmp_path):
    def fail(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(RunError, match="permission denied"):
        RunFolder.create(tmp_path / "a", RunRecord(algorithm="ppo", env="x", seed=0, limits=Limits()))


def truncate(file):
    file.write_bytes(file.read_bytes()[:-7])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 4] ^= 0x10  # of arrays: in the policy's, which come first
    file.write_bytes(content)


@pytest.mark.parametrize("command", ["evaluate", "record"])
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("name", ["manifest.json", "arrays.bin"])
def test_damaged_checkpoint(rl, trained, name, damage, command):
    if command == "record":
        pytest.importorskip("imageio")
    checkpoint = Path(trained, "checkpoints/iteration_000004")
    damage(checkpoint / name)
    output = ["-o", "a.mp4"] if command == "record" else []
    check(rl(command, checkpoint, *output), "iteration_000004")
    assert not Path("a.mp4").exists()


def test_foreign_checkpoint(rl):
    Path("foreign").mkdir()
    Path("foreign/model.pt").write_bytes(b"\x80\x02")
    check(rl("evaluate", "foreign"), "neither a run nor a checkpoint")
    Path("foreign/manifest.json").write_text('{"files": {}}')
    check(rl("evaluate", "foreign"), "foreign")
    Path("foreign/manifest.json").write_bytes(np.random.default_rng(0).bytes(200))
    check(rl("evaluate", "foreign"), "foreign")


def test_run_with_only_damaged_checkpoints(rl, trained):
    for checkpoint in Path(trained, "checkpoints").iterdir():
        truncate(checkpoint / "manifest.json")
    check(rl("resume", trained), "no usable checkpoint")
    assert len(list(Path(trained, "checkpoints").iterdir())) == 3


def test_run_json_that_is_damaged(rl, trained):
    Path(trained, "run.json").write_text("{")
    check(rl("resume", trained), "run.json", "cannot be read")
    assert rl("list")[0] == 0, "the others can still be listed"
