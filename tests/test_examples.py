"""Every script in examples/ starts, explains itself, and runs for two iterations."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.py"))
LEARN_AHEAD = [script for script in SCRIPTS if script.endswith(("_appo.py", "_impala.py"))]


def run(script: str, *flags: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a script in this process, which has torch already, and return its exit code."""
    monkeypatch.setattr(sys, "argv", [script, *flags])
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # what the script puts there is taken back
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    return caught.value.code


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_criterion_and_command(script, monkeypatch, capsys):
    assert run(script, "--help", monkeypatch=monkeypatch) == 0
    text = capsys.readouterr().out
    assert "Criterion: " in text
    assert f"Command: python {script}" in text
    assert "--as-test" in text


@pytest.mark.parametrize("script", SCRIPTS)
def test_two_iterations_run(script, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    here = ["--num-env-runners", "0"] if script in LEARN_AHEAD else []  # their runners are tested in packages/core
    assert run(script, "--stop-iters", "2", *here, monkeypatch=monkeypatch) == 0
    assert "env steps" in capsys.readouterr().out.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [], "a run without --output leaves no files behind"


def test_a_script_runs_with_plain_python_and_fails_as_a_test_when_it_has_not_learned(tmp_path):
    command = [sys.executable, ROOT / SCRIPTS[0], "--stop-iters", "1", "--as-test"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1].startswith("not reached: return ")
