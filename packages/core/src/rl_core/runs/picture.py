"""The picture at the end of a run, drawn by a helper process that loads Matplotlib while the run trains.

Importing Matplotlib and drawing takes about a second: in this process it would be a sixth of a short run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from rl_core.runs import curves
from rl_core.runs.curves import Curve

TIMEOUT_S = 60.0  # Matplotlib's first start on a machine indexes its fonts
INSTALL_HINT = "install the extra: pip install 'rl-core[logging]'"


class PictureProcess:
    """Started with the run, asked once at its end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.available = bool(sys.executable) and importlib.util.find_spec("matplotlib") is not None
        """Whether there is anything to draw with."""
        if self.available:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _program()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
                start_new_session=True,  # Ctrl-C is for the run, which then still wants its picture
            )

    def begin(self, curve: Curve, path: Path) -> None:
        """Hand over the curve; the helper draws while this process goes on."""
        if self._process is not None and self._process.stdin is not None:
            job = json.dumps({"curve": asdict(curve), "path": str(path.absolute())})
            with contextlib.suppress(BrokenPipeError):  # it failed: `wait` says why
                self._process.stdin.write(f"{job}\n".encode())  # a line: forked env workers may keep the pipe open
                self._process.stdin.flush()
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.stdin = None

    def wait(self) -> str | None:
        """Wait for the picture.

        Returns:
            None, or why there is none.
        """
        if self._process is None:
            return f"Matplotlib is missing; {INSTALL_HINT}"
        process, self._process = self._process, None
        try:
            _, errors = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return f"drawing took more than {TIMEOUT_S:g} s"
        if process.returncode:
            lines = errors.decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else f"the drawing process ended with status {process.returncode}"
        return None

    def close(self) -> None:
        """End the process if it was never asked."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=5)


def _program() -> str:
    """Load `curves.py` by its path under a private name: the helper need not find rl_core by itself."""
    return (
        "import os, sys, importlib.util as u\n"
        f"spec = u.spec_from_file_location('_rl_curves', {curves.__file__!r})\n"
        "module = u.module_from_spec(spec)\n"
        "sys.modules[spec.name] = module\n"  # dataclasses look their module up
        "spec.loader.exec_module(module)\n"
        "module.main()\n"
        "os._exit(0)\n"  # taking Matplotlib down politely takes as long as drawing
    )
