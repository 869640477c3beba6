"""Programs that run in the process of the test."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def run_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run a Python file with flags in an empty folder and return its exit code; this process has imported torch."""

    def run(path: Path, *flags: str) -> int:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(path), *flags])
        monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # what it puts there is taken back
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run
