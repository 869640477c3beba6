"""The folder of a run: what lies where in it, and how it is created, opened and kept.

run.json              what was asked for and how it ended (`RunRecord`)
config.json           every setting
metrics.jsonl         one row per iteration
tensorboard/          the same as TensorBoard events
checkpoints/iteration_000120/
learning_curve.png    at the end
report.html           at the end
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rl_core.errors import RunError
from rl_core.runs.limits import Limits, Status
from rl_core.storage import is_running

FORMAT = 1
CHECKPOINT_PATTERN = re.compile(r"iteration_(\d+)")


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """`run.json`: what a list of runs shows, without reading config or metrics."""

    algorithm: str
    """Name of the algorithm, as the command takes it."""
    env: str
    """Env id."""
    seed: int
    """Seed of the config."""
    limits: Limits
    """What ends the run."""
    status: Status = "running"
    """How it ended, or `running`."""
    error: str | None = None
    """The message, where it failed."""
    outcome: dict[str, Any] = field(default_factory=dict)
    """`Outcome.to_json()` of the last session."""
    seconds: float = 0.0
    """Wall time of all finished sessions."""
    started: str = ""
    """Local time of the first start, ISO 8601."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of what it ran with."""
    process: dict[str, Any] = field(default_factory=dict)
    """Host and process id of the session in progress."""
    format: int = FORMAT
    """Version of this file's layout."""

    @staticmethod
    def from_json(values: Any) -> RunRecord:
        """Rebuild a record; unknown names are left out, so that newer versions' files can be listed."""
        if not isinstance(values, Mapping):
            raise ValueError("it holds no JSON object")
        if not isinstance(values.get("started", ""), str):
            raise ValueError("'started' is no text")
        known = {field.name for field in fields(RunRecord)}
        kept = {name: value for name, value in values.items() if name in known}
        return RunRecord(**{**kept, "limits": Limits(**values["limits"])})

    def is_alive(self) -> bool:
        """Whether a process on this machine is still training it."""
        if self.status != "running" or self.process.get("host") != socket.gethostname():
            return False
        pid = self.process.get("pid")
        return isinstance(pid, int) and pid != os.getpid() and is_running(pid)


class RunFolder:
    """Paths, checkpoints and the record of one run."""

    def __init__(self, path: Path, record: RunRecord) -> None:
        self.path = path
        self.record = record
        self.config_path = path / "config.json"
        self.metrics_path = path / "metrics.jsonl"
        self.tensorboard_path = path / "tensorboard"
        self.checkpoints_path = path / "checkpoints"
        self.picture_path = path / "learning_curve.png"
        self.report_path = path / "report.html"

    @staticmethod
    def create(path: Path, record: RunRecord) -> RunFolder:
        """Make a new folder and write into it.

        Raises:
            RunError: something is there already, or the place cannot be written.
        """
        try:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise RunError(
                    f"{path} exists already, and a run is never overwritten. Continue it with `rl resume {path}`, or "
                    "give another --run-dir."
                )
            path.mkdir(parents=True, exist_ok=True)
            folder = RunFolder(path, record)
            folder.checkpoints_path.mkdir()
            folder.write_record()
        except OSError as error:
            raise _unwritable(path, error) from error
        return folder

    @staticmethod
    def open(path: Path) -> RunFolder:
        """Open the folder of an existing run.

        Raises:
            RunError: it does not exist or is not a run.
        """
        try:
            record = RunRecord.from_json(json.loads((path / "run.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            what = "holds no run.json" if path.is_dir() else "does not exist"
            raise RunError(f"{path} is not a run folder: it {what}. `rl list` shows the runs in ./runs.") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path / 'run.json'} cannot be read: {_reason(error)}.") from error
        return RunFolder(path, record)

    @staticmethod
    def reserve(algorithm: str, env: str, *, root: Path) -> Path:
        """Make the empty folder `root/<algorithm>-<env>-<n>`, with the first n above all that exist.

        Several runs may be started at the same time: each gets a folder of its own.

        Raises:
            RunError: the place cannot be written.
        """
        stem = f"{algorithm}-{re.sub(r'[^A-Za-z0-9._-]+', '_', env)}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            matches = (re.fullmatch(re.escape(stem) + r"-(\d+)", name) for name in os.listdir(root))
            number = max((int(match.group(1)) for match in matches if match), default=0) + 1
            while True:
                path = root / f"{stem}-{number}"
                with contextlib.suppress(FileExistsError):  # another run was faster
                    path.mkdir()
                    return path
                number += 1
        except OSError as error:
            raise _unwritable(root, error) from error

    def write_record(self) -> None:
        """Replace `run.json` in one move."""
        write_json(self.path / "run.json", asdict(self.record))

    def begin_session(self) -> None:
        """Note that this process trains the run now.

        Raises:
            RunError: another process does, or the folder cannot be written.
        """
        if self.record.is_alive():
            raise RunError(
                f"{self.path} is being trained by process {self.record.process['pid']} on this machine. "
                "Wait for it, or stop it with Ctrl-C first."
            )
        self.record.status, self.record.error = "running", None
        self.record.process = {"host": socket.gethostname(), "pid": os.getpid()}
        try:
            self.write_record()
        except OSError as error:
            raise RunError(f"The run folder {self.path} cannot be written: {_reason(error)}.") from error

    def end_session(self, status: Status, *, seconds: float, error: str | None = None) -> None:
        """Note how this session ended."""
        self.record.status, self.record.seconds, self.record.error, self.record.process = status, seconds, error, {}
        self.write_record()

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints, newest first."""
        if not self.checkpoints_path.is_dir():
            return []
        numbered = [
            (int(match.group(1)), path)
            for path in self.checkpoints_path.iterdir()
            if (match := CHECKPOINT_PATTERN.fullmatch(path.name))
        ]
        return [path for _, path in sorted(numbered, reverse=True)]

    def set_aside(self, checkpoint: Path) -> Path:
        """Rename a damaged checkpoint, so that it neither counts as newest nor is overwritten."""
        for number in range(1, 1000):
            target = checkpoint.with_name(f"{checkpoint.name}.damaged{'' if number == 1 else number}")
            if not target.exists():
                return checkpoint.rename(target)
        raise RunError(f"{checkpoint} cannot be set aside: delete the damaged checkpoints beside it.")

    def remove_if_unused(self) -> None:
        """Delete what `create` made, as long as nothing was trained: a failed start leaves no folder behind."""
        if not self.metrics_path.exists() and not self.checkpoints():
            shutil.rmtree(self.checkpoints_path, ignore_errors=True)
            for name in ("run.json", "config.json"):
                (self.path / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the user's own files stay
                self.path.rmdir()


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file in one move: a reader sees the old or the new one."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def find_runs(root: Path) -> tuple[list[RunFolder], list[RunError]]:
    """Return the runs directly inside `root`, oldest first, and what is wrong with those that cannot be read."""
    folders: list[RunFolder] = []
    problems: list[RunError] = []
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if (path / "run.json").is_file():
            try:
                folders.append(RunFolder.open(path))
            except RunError as error:
                problems.append(error)
    folders.sort(key=lambda folder: (folder.record.started, _natural(folder.path.name)))
    return folders, problems


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts run-2 before run-10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name)]


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"The run folder {path} cannot be written: {_reason(error)}. Give another --run-dir.")


def _reason(error: BaseException) -> str:
    text: str = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[0].lower() + text[1:]
