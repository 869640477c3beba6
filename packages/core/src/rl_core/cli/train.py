"""`rl train`: a new run."""

from __future__ import annotations

import argparse
import importlib.util
import json
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rl_core.algorithm import registry
from rl_core.algorithm.config import AlgorithmConfig
from rl_core.algorithm.sinks import Sink
from rl_core.cli import display, inputs, options
from rl_core.cli.versions import versions
from rl_core.errors import RunError
from rl_core.runs.folder import RunFolder, RunRecord, write_json
from rl_core.runs.interrupt import Interrupt
from rl_core.runs.limits import Limits, Outcome
from rl_core.runs.loop import Session, default_evaluation_interval, run_session
from rl_core.runs.mlflow_sink import MLflowSink
from rl_core.runs.sinks import CsvSink
from rl_core.runs.wandb_sink import WandbSink

if TYPE_CHECKING:
    from rl_core.algorithm.algorithm import Algorithm

INTERVAL = "evaluation.evaluation_interval"
CSV = "metrics.csv"
"""What `--sink csv` writes in the run's folder."""


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    started_at = time.monotonic()
    limits = options.limits_of(arguments).bounded()
    config = _config_of(arguments)
    _check_extras(arguments.sinks)
    path = arguments.run_dir or RunFolder.reserve(arguments.algorithm, arguments.env, root=Path("runs"))
    sinks = _sinks(path.absolute())
    config.reporting(sinks=tuple(sinks[name] for name in dict.fromkeys(arguments.sinks)))
    record = RunRecord(
        algorithm=arguments.algorithm,
        env=str(config.environment.env),
        seed=config.debugging.seed,
        limits=limits,
        started=datetime.now().isoformat(timespec="seconds"),
        versions=versions(),
    )
    with Interrupt() as interrupt:
        folder = RunFolder.create(path, record)
        try:
            write_json(folder.config_path, config.to_dict())
            folder.begin_session()
            algorithm = config.build()
        except BaseException:
            folder.remove_if_unused()
            raise
        return train(
            algorithm,
            folder,
            limits,
            interrupt=interrupt,
            started_at=started_at,
            as_json=arguments.json,
        )


def train(
    algorithm: Algorithm,
    folder: RunFolder,
    limits: Limits,
    *,
    interrupt: Interrupt,
    started_at: float,
    as_json: bool,
) -> int:
    """Run one session with a display, print how it ended, and return the exit code."""
    stream = sys.stderr if as_json else sys.stdout
    session = Session(
        algorithm=algorithm,
        folder=folder,
        limits=limits,
        display=display.make_display(folder, limits, stream=stream),
        interrupt=interrupt,
        started_at=started_at,
        seconds_before=folder.record.seconds,
    )
    outcome = run_session(session)
    print_outcome(outcome, folder, limits, as_json=as_json)
    if outcome.status == "interrupted":
        return options.exit_code_of_signal(interrupt.signal_number)
    return outcome.exit_code


def print_outcome(outcome: Outcome, folder: RunFolder, limits: Limits, *, as_json: bool) -> None:
    """Print the run's folder, how to go on, and as the last line how it ended."""
    stream = sys.stderr if as_json else sys.stdout
    if outcome.status == "interrupted":
        for newest in folder.checkpoints()[:1]:
            print(f"saved   {newest}\nresume  rl resume {folder.path}", file=stream)
    else:
        print(f"report  {folder.report_path}", file=stream)
    if not as_json:
        print(outcome.sentence(limits), flush=True)
        return
    record = folder.record
    result = {
        **outcome.to_json(),
        "stop_reward": limits.reward,
        "algorithm": record.algorithm,
        "env": record.env,
        "seed": record.seed,
        "run": str(folder.path),
    }
    print(json.dumps(result), flush=True)


def _check_extras(sinks: Sequence[str]) -> None:
    """Refuse a service whose library is missing, before a folder is made.

    Raises:
        RunError: names the extra.
    """
    for name in sinks:
        if name != "csv" and importlib.util.find_spec(name) is None:
            raise RunError(f"--sink {name} needs the extra: pip install 'rl-core[{name}]'")


def _sinks(path: Path) -> dict[str, Sink]:
    """Make what `--sink` can name, for a run in the folder `path`."""
    run_id = secrets.token_hex(8)  # stored in the config, so that `rl resume` goes on with the same run there
    return {
        "csv": CsvSink(str(path / CSV)),
        "mlflow": MLflowSink(name=path.name, run_id=run_id),
        "wandb": WandbSink(name=path.name, folder=str(path), run_id=run_id),
    }


def placed(sinks: Sequence[Sink], path: Path) -> tuple[Sink, ...]:
    """Let sinks that `_sinks` made write into the run's folder `path`: it may have been moved or copied since."""

    def place(sink: Sink) -> Sink:
        if isinstance(sink, CsvSink) and Path(sink.path).is_absolute() and Path(sink.path).name == CSV:
            return replace(sink, path=str(path.absolute() / CSV))
        if isinstance(sink, WandbSink) and sink.folder and Path(sink.folder).name == sink.name:
            return replace(sink, folder=str(path.absolute()))
        return sink

    return tuple(map(place, sinks))


def _config_of(arguments: argparse.Namespace) -> AlgorithmConfig:
    """Make the config from algorithm, env, seed and settings, in this order."""
    config = registry.algorithm_config(arguments.algorithm)
    config.environment(env=arguments.env)
    if arguments.seed is not None:
        config.debugging(seed=arguments.seed)
    inputs.apply_settings(config, arguments.settings)
    if config.reporting.settings.sinks:
        raise RunError("--set reporting.sinks: the command cannot make sinks of text. Name them with --sink.")
    if config.environment.env != arguments.env:
        raise RunError(f"--set environment.env={config.environment.env} contradicts the env {arguments.env}. Give one.")
    if not any(setting.partition("=")[0].strip() == INTERVAL for setting in arguments.settings):
        config.evaluation(evaluation_interval=default_evaluation_interval(config.env_steps_per_iteration()))
    return config
