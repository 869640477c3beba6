"""Every command and Python example in the documents runs as it stands."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("packages/*/README.md"))]
SET_UP = ("pip install", "git clone", "cd ")
"""Beginnings of commands that set up the machine: CI itself does those."""
UNLIMITED = "rl train ppo CartPole-v1\n"
"""Trains to the end, in half a minute; other commands in the documents train with a limit."""


def blocks(language: str) -> list[object]:
    """Collect the fenced blocks of one language from all documents."""
    found = []
    for document in DOCUMENTS:
        texts = re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
        for number, text in enumerate(texts):
            marks = [pytest.mark.learning] if text.endswith(UNLIMITED) else []
            found.append(pytest.param(text, id=f"{document}-{number}", marks=marks))
    return found


@pytest.mark.parametrize("text", blocks("python"))
def test_python_example_runs(text: str, run_program: Callable[..., int], tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(text)
    assert run_program(script) == 0


@pytest.mark.parametrize("text", blocks("bash"))
def test_commands_run(text: str, run_program: Callable[..., int], tmp_path: Path) -> None:
    commands = [line.partition(" #")[0].strip() for line in text.splitlines()]
    commands = [command.removeprefix("pip install uv && ") for command in commands if command]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command in commands:
        if command.startswith(SET_UP) or "pytest" in command:
            continue
        program, *arguments = shlex.split(command.removeprefix("uv run "))
        script = tmp_path / arguments.pop(0) if program == "python" else Path(sys.executable).parent / program
        assert script.exists(), f"{script.name} is not installed"
        assert run_program(script, *arguments) == 0, command
