"""Every example must meet its goal on the seeds 0, 1 and 2, judged by separate evaluations: `just learn`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("examples/*/*.py"))


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("script", SCRIPTS)
def test_example_meets_its_goal(script: str, seed: int) -> None:
    command = [sys.executable, script, "--as-test", "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
