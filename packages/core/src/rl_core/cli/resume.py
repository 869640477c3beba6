"""`rl resume`: go on with a run from its newest good checkpoint."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rl_core.algorithm.algorithm import Algorithm
from rl_core.algorithm.config import AlgorithmConfig
from rl_core.checkpoint import Checkpoint
from rl_core.cli import inputs, options
from rl_core.cli.train import placed, train
from rl_core.errors import RunError
from rl_core.runs.folder import RunFolder, write_json
from rl_core.runs.interrupt import Interrupt
from rl_core.runs.metrics_file import drop_rows_after


def run(arguments: argparse.Namespace) -> int:
    """Resume."""
    started_at = time.monotonic()
    folder = RunFolder.open(arguments.run_dir)
    if folder.record.is_alive():
        folder.begin_session()  # says that it is being trained
    checkpoint = inputs.newest_good_checkpoint(folder, lambda text: print(text, file=sys.stderr))
    limits = folder.record.limits.updated(options.limits_of(arguments))
    with Interrupt() as interrupt:
        algorithm = _restore(checkpoint, folder, arguments)
        folder.record.limits = limits
        folder.record.seconds = max(folder.record.seconds, algorithm.time_total_s)  # a killed session noted nothing
        folder.begin_session()
        _tidy(folder, checkpoint, algorithm)
        print(f"resuming from {checkpoint}", file=sys.stderr if arguments.json else sys.stdout)
        return train(algorithm, folder, limits, interrupt=interrupt, started_at=started_at, as_json=arguments.json)


def _restore(checkpoint: Path, folder: RunFolder, arguments: argparse.Namespace) -> Algorithm:
    """Build the algorithm with the settings of the checkpoint and those given anew, and load it.

    Raises:
        RunError: another env was asked for.
        CheckpointError: the checkpoint does not fit.
        ConfigError: a setting is wrong, or the checkpoint names what may not be imported.
    """
    config = AlgorithmConfig.from_dict(Checkpoint(checkpoint).load("config"), allow=inputs.allowed(arguments))
    env = config.environment.env
    inputs.apply_settings(config, arguments.settings)
    if config.environment.env != env:
        raise RunError(
            f"The run {folder.path} was trained on {env}, and a run keeps its env: {config.environment.env!r} is "
            f"refused. Start a new one: rl train {folder.record.algorithm} {config.environment.env}"
        )
    config.reporting(sinks=placed(config.reporting.settings.sinks, folder.path))
    algorithm = config.build()
    try:
        for name, (before, now) in algorithm.restore(checkpoint).items():
            file = sys.stderr if arguments.json else sys.stdout
            print(f"{name} was {before}, is {now} from here on", file=file, flush=True)
    except BaseException:
        algorithm.stop()
        raise
    return algorithm


def _tidy(folder: RunFolder, checkpoint: Path, algorithm: Algorithm) -> None:
    """Make the folder fit the checkpoint: newer, damaged checkpoints aside, later metrics dropped.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        for path in folder.checkpoints():
            if path == checkpoint:
                break
            folder.set_aside(path)
        drop_rows_after(folder.metrics_path, algorithm.iteration)
        write_json(folder.config_path, algorithm.config.to_dict())
    except OSError as error:
        raise RunError(f"The run folder {folder.path} cannot be written: {error.strerror or error}.") from error
