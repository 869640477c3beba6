"""Every example must meet its goal on the seeds 0, 1 and 2, judged by separate evaluations: `just learn`.

Where an example has a control, the same script without what it shows, the control must miss that goal on each seed.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("examples/*/*.py"))
CONTROLS = {
    "examples/actions/autoregressive_actions.py": ["--independent-heads"],
    "examples/connectors/mean_std_filtering.py": ["--disable-mean-std-filter"],
    "examples/curiosity/count_based_curiosity.py": ["--no-curiosity"],
    "examples/curiosity/euclidian_distance_based_curiosity.py": ["--no-curiosity"],
    "examples/learners/ppo_with_custom_loss_fn.py": ["--regularizer-coeff", "0"],
}
"""The flags that take away what an example shows."""
FURTHER_ENVS = {
    "examples/tuned/mujoco_ppo.py": ["InvertedDoublePendulum-v5", "Reacher-v5", "Swimmer-v5", "Humanoid-v5"],
}
"""What `--env` can be besides its default, where a script has a goal for each."""


def run_as_test(script: str, seed: int, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, script, "--as-test", "--seed", str(seed), *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("script", SCRIPTS)
def test_example_meets_its_goal(script: str, seed: int) -> None:
    done = run_as_test(script, seed)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("script", "env"), [(script, env) for script, envs in FURTHER_ENVS.items() for env in envs])
def test_example_meets_the_goal_of_each_env(script: str, env: str, seed: int) -> None:
    done = run_as_test(script, seed, "--env", env)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("script", CONTROLS)
def test_control_of_example_misses_its_goal(script: str, seed: int) -> None:
    done = run_as_test(script, seed, *CONTROLS[script])
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "\nnot reached: " in done.stdout, done.stderr[-2000:]  # a crash exits with 1 too
