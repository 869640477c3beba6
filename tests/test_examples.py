"""Every script in examples/ starts, explains itself, and runs for an iteration or two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rl_core import start_ray

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.py"))
LEARN_AHEAD = ("_appo.py", "_impala.py")
SLOW = ("pendulum_sac.py", "pendulum_td3.py", "pendulum_tqc.py", "custom_cnn_rl_module.py")
PARALLEL = "examples/evaluation/evaluation_parallel_to_training.py"
FRACTIONAL = "examples/gpus/fractional_gpus_per_learner.py"


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    """One Ray cluster for all examples that use one, with a GPU that is not there."""
    ray = pytest.importorskip("ray")
    if ray.is_initialized():  # by another test in this process
        ray.shutdown()
    start_ray(num_cpus=8, num_gpus=1)
    yield
    ray.shutdown()


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_criterion_and_command(script, run_program, capsys):
    assert run_program(ROOT / script, "--help") == 0
    text = capsys.readouterr().out
    assert "Criterion: " in text
    assert f"Command: python {script}" in text
    assert "--as-test" in text


def short_run(script: str) -> list[str]:
    """Flags for as little as shows that training, evaluation and what the script does with them work together."""
    # One iteration of theirs has hundreds of gradient steps, or some of a large network.
    flags = ["--stop-iters", "1" if script.endswith(SLOW) else "2"]
    if script != PARALLEL:  # whose evaluation is as long as training
        flags += ["--evaluation-duration", "2"]
    if script == FRACTIONAL:  # its learners are tested in packages/core
        flags += ["--num-learners", "0"]
    if script.endswith(LEARN_AHEAD):  # their runners are tested in packages/core
        flags += ["--num-env-runners", "0"]
    return flags


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_short_run_ends_well(script, run_program, capsys, tmp_path):
    assert run_program(ROOT / script, *short_run(script)) == 0
    assert "env steps" in capsys.readouterr().out.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [], "a run without --output leaves no files behind"


def test_a_script_runs_with_plain_python_and_fails_as_a_test_when_it_has_not_learned(tmp_path):
    command = [sys.executable, ROOT / SCRIPTS[0], "--stop-iters", "1", "--as-test"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1].startswith("not reached: return ")
