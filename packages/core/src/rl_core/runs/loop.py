"""One session of a run: train until a limit, write metrics and checkpoints, leave picture and report behind."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rl_core.algorithm.algorithm import Algorithm
from rl_core.algorithm.sinks import is_evaluated
from rl_core.errors import CheckpointError, RLError, RunError
from rl_core.metrics import plain_row
from rl_core.runs.folder import RunFolder
from rl_core.runs.interrupt import Interrupt
from rl_core.runs.keeper import CheckpointKeeper
from rl_core.runs.limits import Limits, Outcome, Status, StoppedBy
from rl_core.runs.metrics_file import MetricsFile
from rl_core.runs.picture import PictureProcess
from rl_core.runs.report import curve_of, write_report
from rl_core.runs.sinks import TensorBoardWriter

CHECKPOINT_INTERVAL_S = 10.0
EVALUATION_INTERVAL_STEPS = 5_000
RETURN = "evaluation/episode_return_mean"


class Display(Protocol):
    """What shows the progress of a run."""

    def update(self, row: Mapping[str, Any], seconds: float) -> None:
        """Take the result of an iteration and the seconds of the run so far."""

    def note(self, text: str) -> None:
        """Show a line that stays."""

    def announce_stop(self) -> None:
        """Say that the run stops after this iteration; called from a signal handler, so it must not print."""

    def close(self) -> None:
        """End the display."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What `run_session` works with."""

    algorithm: Algorithm
    folder: RunFolder
    limits: Limits
    display: Display
    interrupt: Interrupt
    started_at: float
    """`time.monotonic()` at the start of this session."""
    seconds_before: float = 0.0
    """Wall time of the sessions before."""

    def seconds(self) -> float:
        """Wall time of the run over all its sessions."""
        return self.seconds_before + time.monotonic() - self.started_at


def default_evaluation_interval(env_steps_per_iteration: int) -> int:
    """Return the iterations between evaluations where the user set none: about every 5,000 env steps."""
    return max(1, round(EVALUATION_INTERVAL_STEPS / env_steps_per_iteration))


def run_session(session: Session) -> Outcome:
    """Train to the end of the session.

    Raises:
        RLError: training failed; the folder is marked as failed, what was saved stays, and the error carries notes
            that say where.
    """
    folder = session.folder
    session.interrupt.announce = session.display.announce_stop
    picture = PictureProcess()
    try:
        keeper = CheckpointKeeper(session.algorithm, folder.checkpoints_path)
        outcome = _train(session, keeper)
        _finish(session, outcome, picture, keeper)
        folder.end_session(outcome.status, seconds=outcome.seconds)
    except BaseException as error:
        _mark_failed(session, error)
        raise
    finally:
        session.display.close()
        picture.close()
        with contextlib.suppress(Exception):  # an env that crashed may not close either; the first error counts
            session.algorithm.stop()
    return outcome


def _train(session: Session, keeper: CheckpointKeeper) -> Outcome:
    """Iterate until the stop reward, a limit or a signal; every row is written once."""
    algorithm = session.algorithm
    saver = _Saver(session, keeper)
    row: dict[str, Any] = {}
    first_step = algorithm.env_steps + 1 if algorithm.env_steps else 0
    with (
        contextlib.closing(MetricsFile(session.folder.metrics_path)) as metrics,
        contextlib.closing(TensorBoardWriter(session.folder.tensorboard_path, first_step=first_step)) as events,
    ):
        stopped_by = _stop_signal(session) or _limit(session)  # a resumed run may have nothing left to do
        while stopped_by is None:
            row = plain_row(algorithm.train())
            stopped_by = _stopped_after(session, row)
            if stopped_by in ("timesteps", "iterations", "time") and not is_evaluated(row):
                row |= plain_row(algorithm.evaluate())
            with _writing(session.folder):
                metrics.write(row, algorithm.metrics.media)
                events.write(row, algorithm.metrics.media)
            session.display.update(row, session.seconds())
            saver.after_iteration(row, goes_on=stopped_by is None)
    return _outcome(session, row, stopped_by)


def _stopped_after(session: Session, row: Mapping[str, Any]) -> StoppedBy | None:
    """Say what ends the run after this row, the stop reward first."""
    if is_evaluated(row) and session.limits.reached(row[RETURN]):
        return "reward"
    return _stop_signal(session) or _limit(session)


def _stop_signal(session: Session) -> StoppedBy | None:
    return "signal" if session.interrupt.signal_number is not None else None


def _limit(session: Session) -> StoppedBy | None:
    algorithm = session.algorithm
    return session.limits.exceeded(
        env_steps=algorithm.env_steps, iteration=algorithm.iteration, seconds=session.seconds()
    )


def _outcome(session: Session, row: Mapping[str, Any], stopped_by: StoppedBy) -> Outcome:
    """Judge the newest evaluation; one made because a limit came may still have reached the stop reward."""
    if not row and stopped_by != "signal":
        row = plain_row(session.algorithm.evaluate())
    return_mean = float(row.get(RETURN, math.nan))
    num_episodes = row.get("evaluation/num_episodes", 0)
    status: Status = "finished"
    if stopped_by == "signal":
        status = "interrupted"
    elif session.limits.reached(return_mean):
        status, stopped_by = "reached", "reward"
    elif session.limits.reward is not None:
        status = "limit"
    return Outcome(
        status=status,
        stopped_by=stopped_by,
        return_mean=return_mean,
        num_episodes=0 if math.isnan(num_episodes) else int(num_episodes),
        env_steps=session.algorithm.env_steps,
        iteration=session.algorithm.iteration,
        seconds=session.seconds(),
    )


class _Saver:
    """Saves checkpoints every `checkpoint_frequency` iterations.

    Where the user did not set the frequency, checkpoints are also at least ten seconds apart: writing one safely
    takes as long as a short iteration.
    """

    def __init__(self, session: Session, keeper: CheckpointKeeper) -> None:
        self._session, self._keeper = session, keeper
        config = session.algorithm.config
        self._frequency = config.checkpointing.settings.checkpoint_frequency
        self._interval_s = 0.0 if "checkpointing.checkpoint_frequency" in config.diff() else CHECKPOINT_INTERVAL_S
        self._saved_at = time.monotonic()

    def after_iteration(self, row: Mapping[str, Any], *, goes_on: bool) -> None:
        """Save if it is time and training goes on; the last iteration is saved when it has ended."""
        due = bool(self._frequency) and self._session.algorithm.iteration % self._frequency == 0
        due = goes_on and due and time.monotonic() - self._saved_at >= self._interval_s
        self._keeper.after_iteration(row, may_save=due)
        if due:
            self._saved_at = time.monotonic()


def _finish(session: Session, outcome: Outcome, picture: PictureProcess, keeper: CheckpointKeeper) -> None:
    """Save the last checkpoint while the helper process draws, then write the report."""
    folder = session.folder
    curve = curve_of(folder)
    picture.begin(curve, folder.picture_path)
    keeper.finish()
    record = folder.record
    record.status, record.seconds, record.outcome = outcome.status, outcome.seconds, outcome.to_json()
    with _writing(folder):
        write_report(folder, session.algorithm.config)
    problem = picture.wait()
    if problem:
        session.display.note(f"{folder.picture_path.name} was not drawn: {problem}. report.html has the curve.")


def _mark_failed(session: Session, error: BaseException) -> None:
    """Note the failure in the folder, and on the error what can be done now."""
    folder = session.folder
    with contextlib.suppress(CheckpointError):  # the first error counts
        session.algorithm.wait_for_checkpoints()
    status: Status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    with contextlib.suppress(OSError):  # the disk may be what failed
        folder.end_session(status, seconds=session.seconds(), error=f"{type(error).__name__}: {error}")
    checkpoints = folder.checkpoints()
    if isinstance(error, RLError | KeyboardInterrupt) and checkpoints:
        error.add_note(f"Saved until {checkpoints[0]}. Continue from there with: rl resume {folder.path}")
    elif isinstance(error, RLError | KeyboardInterrupt):
        error.add_note(f"There is no checkpoint yet; metrics are in {folder.path}.")


@contextlib.contextmanager
def _writing(folder: RunFolder) -> Iterator[None]:
    """Turn a failed write into an error that names the folder."""
    try:
        yield
    except OSError as error:
        message = f"Writing to {folder.path} failed: {error.strerror or error}. What was saved before stays."
        raise RunError(message) from error
