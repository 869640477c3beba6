"""What a run with `--output` leaves behind: the same folder as `rl train` makes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rl_core.algorithm.algorithm import Algorithm
from rl_core.cli.versions import versions
from rl_core.env.make import env_name
from rl_core.runs.folder import RunFolder, RunRecord, write_json
from rl_core.runs.keeper import CheckpointKeeper
from rl_core.runs.limits import Limits, Outcome
from rl_core.runs.metrics_file import MetricsFile
from rl_core.runs.report import write_report
from rl_core.runs.sinks import TensorBoardWriter


class RunFiles:
    """Writes the folder of one run: config, metrics, TensorBoard events, checkpoints, report."""

    def __init__(self, algorithm: Algorithm, path: Path, limits: Limits) -> None:
        """Make the folder.

        Raises:
            RunError: something is there already, or the place cannot be written.
            ConfigError: the config holds something without an import path, such as a lambda.
        """
        self._algorithm = algorithm
        config = algorithm.config
        stored = config.to_dict()
        record = RunRecord(
            algorithm=config.name,
            env=env_name(config.environment.settings.env),
            seed=config.debugging.settings.seed,
            limits=limits,
            started=datetime.now().isoformat(timespec="seconds"),
            versions=versions(),
        )
        self._folder = RunFolder.create(path, record)
        write_json(self._folder.config_path, stored)
        self._folder.begin_session()
        self._keeper = CheckpointKeeper(algorithm, self._folder.checkpoints_path)
        self._metrics = MetricsFile(self._folder.metrics_path)
        self._events = TensorBoardWriter(self._folder.tensorboard_path)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append the result of an iteration, and save a checkpoint if one is due."""
        self._metrics.write(row, self._algorithm.metrics.media)
        self._events.write(row, self._algorithm.metrics.media)
        self._keeper.after_iteration(row)

    def finish(self, outcome: Outcome) -> Path | None:
        """Save the last checkpoint, write the report, and return the newest checkpoint if there is one."""
        self.close()
        self._keeper.finish()
        record = self._folder.record
        record.status, record.seconds, record.outcome = outcome.status, outcome.seconds, outcome.to_json()
        write_report(self._folder, self._algorithm.config)
        self._folder.end_session(outcome.status, seconds=outcome.seconds)
        return next(iter(self._folder.checkpoints()), None)

    def fail(self, error: BaseException, seconds: float) -> None:
        """Note that training failed; what was saved stays."""
        self.close()
        self._folder.end_session("failed", seconds=seconds, error=f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Flush and close metrics and events."""
        self._metrics.close()
        self._events.close()
