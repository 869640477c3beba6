"""Every command and Python example in the documents runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("packages/*/README.md"))]
SET_UP = ("pip install", "git clone", "cd ")
"""Beginnings of commands that set up the machine: CI itself does those."""


def blocks(language: str) -> list[object]:
    """Collect the fenced blocks of one language from all documents."""
    found = []
    for document in DOCUMENTS:
        texts = re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
        found += [pytest.param(text, id=f"{document}-{number}") for number, text in enumerate(texts)]
    return found


@pytest.mark.parametrize("text", blocks("python"))
def test_python_example_runs(text: str, run_program: Callable[..., int], tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(text)
    assert run_program(script) == 0


@pytest.mark.parametrize("text", blocks("bash"))
def test_commands_run(text: str, tmp_path: Path) -> None:
    commands = [line.partition(" #")[0].strip() for line in text.splitlines()]
    commands = [command.removeprefix("pip install uv && ") for command in commands if command]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command in commands:
        if command.startswith(SET_UP) or "pytest" in command:
            continue
        words = command.removeprefix("uv run ")
        program = Path(sys.executable).parent / words.split()[0]
        assert program.exists(), f"{words.split()[0]} is not installed"
        line = f"{program} {words.partition(' ')[2]}"
        result = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=1200)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
