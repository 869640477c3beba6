"""Train an example until a separate evaluation meets its criterion, and say in the last line whether it did."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from rl_core.errors import ConfigError, RLError
from rl_core.example.parser import LEAST_EPISODES
from rl_core.runs.interrupt import Interrupt
from rl_core.runs.limits import Limits, Outcome, Status, StoppedBy

if TYPE_CHECKING:
    from rl_core.algorithm.algorithm import Algorithm
    from rl_core.algorithm.config import AlgorithmConfig
    from rl_core.example.files import RunFiles

Verdict: TypeAlias = tuple[bool, str]
"""Whether something holds, and the figures that show it, such as `(True, "7 of 8 games won")`."""
Criterion: TypeAlias = "Callable[[Algorithm, Mapping[str, Any]], Verdict]"
"""Judges the algorithm after an evaluation, given the newest result with its `evaluation/...` figures."""
RETURN, EPISODES = "evaluation/episode_return_mean", "evaluation/num_episodes"
EVALUATE_EVERY = 5_000
"""Env steps between evaluations where neither script, config nor flag says otherwise."""
NOT_REACHED, WRONG_FLAGS, INTERRUPTED = 1, 2, 130


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleOutcome:
    """How the training of an example ended."""

    algorithm: Algorithm
    """Still open, with its newest weights; `finish_example` stops it."""
    reached: bool
    """Whether the last evaluation met the criterion; True where there is none."""
    figure: str
    """What the criterion found, in words; empty where there is none."""
    result: Mapping[str, Any]
    """The last result of training, with the last evaluation."""
    status: Status
    """`reached`, `limit` (not reached), `finished` (nothing was to be reached) or `interrupted`."""
    seconds: float
    """Wall time: building, training, evaluating, saving."""
    checkpoint: Path | None
    """The last checkpoint, with `--output`; else None. `algorithm.save(path)` makes one anywhere."""

    @property
    def evaluation_return(self) -> float:
        """Mean return of the last evaluation, NaN if there was none."""
        return float(self.result[RETURN])

    @property
    def env_steps(self) -> int:
        """Env steps of training."""
        return self.algorithm.env_steps


def one_run(args: argparse.Namespace, name: str, **changes: object) -> argparse.Namespace:
    """Return the flags for one of a script's several runs: Ctrl-C in it ends the script.

    Args:
        args: As parsed.
        name: Of the folder within `--output` that its files go to.
        changes: Other values of flags.
    """
    flags = {"output": args.output and args.output / name, "is_one_of_several": True}
    return argparse.Namespace(**{**vars(args), **flags, **changes})


def run_example(
    config: AlgorithmConfig,
    args: argparse.Namespace,
    *,
    criterion: Criterion | None = None,
    evaluate_every: int = EVALUATE_EVERY,
) -> NoReturn:
    """Train as `train_example` does and end the script as `finish_example` does."""
    finish_example(train_example(config, args, criterion=criterion, evaluate_every=evaluate_every), args)


def train_example(
    config: AlgorithmConfig,
    args: argparse.Namespace,
    *,
    criterion: Criterion | None = None,
    evaluate_every: int = EVALUATE_EVERY,
    prepare: Callable[[Algorithm], None] | None = None,
) -> ExampleOutcome:
    """Train until the criterion is met, a limit comes or Ctrl-C is pressed.

    Every `evaluate_every` env steps, or as `evaluation_interval` of the config or the flag says, a separate evaluation
    with the newest weights is judged, by default with actions drawn from the policy; so is one when a limit comes.

    Args:
        config: Of the script; it is not changed. The flags are applied to a copy.
        args: Parsed by `example_parser`.
        criterion: Judges as well as `--stop-reward`: where both are given, both must hold.
        evaluate_every: Env steps between evaluations, at least 1; an evaluation follows the iteration that completes
            them. An interval of the config or the flag goes before it.
        prepare: Called with the algorithm before its first iteration, for example to load weights.

    Raises:
        ValueError: `evaluate_every` is below 1.
        SystemExit: with 2, if the flags do not fit the script or the config, the env cannot be made, or `--output`
            cannot be written; with 130 after Ctrl-C in one of several runs.
        RLError: training failed.
    """
    from rl_core.example.files import RunFiles

    if evaluate_every < 1:
        raise ValueError(f"evaluate_every: got {evaluate_every}, expected at least 1 env step. Leave it out for 5,000.")
    started_at = time.monotonic()
    logging.basicConfig(level=args.log_level)
    limits = Limits(reward=args.stop_reward, timesteps=args.stop_timesteps, iterations=args.stop_iters).bounded()
    try:
        algorithm = with_flags(config, args).build()
    except RLError as error:
        refuse(error)
    files: RunFiles | None = None
    try:
        if prepare is not None:
            prepare(algorithm)
        try:
            files = None if args.output is None else RunFiles(algorithm, args.output, limits)
        except RLError as error:
            refuse(error)
        with Interrupt() as interrupt:
            training = _Training(algorithm, limits, criterion, interrupt=interrupt, files=files, started_at=started_at)
            every = evaluate_every if args.evaluation_interval is None else None
            outcome = training.run(verbose=args.verbose, evaluate_every=every)
    except BaseException as error:
        if files is not None:
            files.fail(error, time.monotonic() - started_at)
        with contextlib.suppress(Exception):  # an env that crashed may not close either; the first error counts
            algorithm.stop()
        raise
    if outcome.status == "interrupted" and getattr(args, "is_one_of_several", False):
        finish_example(outcome, args)
    return outcome


def refuse(error: RLError) -> NoReturn:
    """End a script that was not given what it needs."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(WRONG_FLAGS) from error


def finish_example(outcome: ExampleOutcome, args: argparse.Namespace, *checks: Verdict) -> NoReturn:
    """Close the algorithm, print how the example ended as the last line, and exit.

    The exit code is 0; with `--as-test` 1 if the criterion or one of `checks` was not met; 130 after Ctrl-C.

    Args:
        outcome: Of `train_example`.
        args: As parsed.
        checks: What the script found after training.

    Raises:
        ValueError: `--as-test` was given and there is nothing to judge by.
    """
    outcome.algorithm.stop()
    if args.as_test and outcome.status == "finished" and not checks:
        raise ValueError("--as-test: there is no criterion. Give --stop-reward, or the script a criterion.")
    reached = outcome.reached and all(passed for passed, _ in checks)
    figures = [text for text in (outcome.figure, *(text for _, text in checks)) if text]
    head = "reached" if reached else "not reached"
    if outcome.status == "interrupted" or not figures:
        head = "interrupted" if outcome.status == "interrupted" else "finished"
        figures = figures or [f"return {outcome.evaluation_return:.1f}"]
    if outcome.checkpoint is not None and args.verbose:
        print(f"files in {args.output}, last checkpoint {outcome.checkpoint}")
    print(f"{head}: {'; '.join(figures)}; {outcome.env_steps:,} env steps, {outcome.seconds:.1f} s", flush=True)
    if outcome.status == "interrupted":
        raise SystemExit(INTERRUPTED)
    raise SystemExit(NOT_REACHED if args.as_test and not reached else 0)


def with_flags(config: AlgorithmConfig, args: argparse.Namespace) -> AlgorithmConfig:
    """Return a copy of the config with the flags applied that concern it.

    Raises:
        ConfigError: `--algo` is not what the script trains, or a value does not fit the config.
    """
    if args.algo is not None and args.algo.lower() != config.name:
        raise ConfigError(f"--algo: got {args.algo!r}, but this script trains {config.name!r}. Leave the flag out.")
    config = config.copy()
    _evaluate_by_flags(config, args)
    if args.num_cpus is not None:
        from rl_core.runtime.session import start_ray

        start_ray(num_cpus=args.num_cpus)
    if args.num_env_runners is not None:
        config.env_runners(num_env_runners=args.num_env_runners)
    if args.num_envs_per_env_runner is not None:
        config.env_runners(num_envs_per_env_runner=args.num_envs_per_env_runner)
    if args.seed is not None:
        config.debugging(seed=args.seed)
    learners = ("num_learners", "num_cpus_per_learner", "num_gpus_per_learner")
    config.learners(**{name: value for name in learners if (value := getattr(args, name)) is not None})
    if args.checkpoint_freq is not None:
        config.checkpointing(checkpoint_frequency=args.checkpoint_freq)
    if args.wandb_project is not None or args.wandb_run_name is not None or args.wandb_key is not None:
        from rl_core.runs.wandb_sink import WandbSink

        if args.wandb_key is not None:
            os.environ["WANDB_API_KEY"] = args.wandb_key  # where wandb reads it: a config is stored, a key must not be
        sink = WandbSink(project=args.wandb_project, name=args.wandb_run_name)
        config.reporting(sinks=(*config.reporting.settings.sinks, sink))
    return config


def _evaluate_by_flags(config: AlgorithmConfig, args: argparse.Namespace) -> None:
    """Apply the flags of the separate evaluation."""
    evaluation: dict[str, Any] = {
        "evaluation_duration": args.evaluation_duration,
        "evaluation_duration_unit": args.evaluation_duration_unit,
    }
    for name in ("evaluation_interval", "evaluation_num_env_runners"):
        if getattr(args, name) is not None:
            evaluation[name] = getattr(args, name)
    if args.evaluation_parallel_to_training:
        evaluation["evaluation_parallel_to_training"] = True
        if not config.evaluation.settings.evaluation_interval:  # beside training there is no other time for it
            evaluation.setdefault("evaluation_interval", 1)
    config.evaluation(**evaluation)


class _Training:
    """The loop of one example."""

    def __init__(
        self,
        algorithm: Algorithm,
        limits: Limits,
        criterion: Criterion | None,
        *,
        interrupt: Interrupt,
        files: RunFiles | None,
        started_at: float,
    ) -> None:
        self._algorithm = algorithm
        self._limits = limits
        self._criterion = criterion
        self._interrupt = interrupt
        self._files = files
        self._started_at = started_at
        self._has_goal = limits.reward is not None or criterion is not None

    def run(self, *, verbose: int, evaluate_every: int | None) -> ExampleOutcome:
        """Iterate to the end.

        Args:
            verbose: 0 prints nothing, 1 a line per evaluation, 2 a line per iteration.
            evaluate_every: Env steps between evaluations where the config has no interval. None: the user set the
                interval, which holds even if it is 0.
        """
        from rl_core.algorithm.sinks import is_evaluated
        from rl_core.cli.display import ProgressMeter, limit_words, progress_line
        from rl_core.metrics import plain_row

        algorithm, meter = self._algorithm, ProgressMeter(self._limits)
        if verbose:
            seed = algorithm.config.debugging.settings.seed
            print(f"{algorithm.config.name}, seed {seed}, {limit_words(self._limits)}", flush=True)
        interval = algorithm.config.evaluation.settings.evaluation_interval
        every = None if interval else evaluate_every  # with an interval, `train` evaluates by itself
        has_no_end = algorithm.config.evaluation.settings.evaluation_duration == "auto"  # without training beside it
        evaluated_at = 0
        reached, figure = False, ""
        stopped_by: StoppedBy | None = None
        row: dict[str, Any] = {}
        while stopped_by is None:
            row = plain_row(algorithm.train())
            stopped_by = self._stopped_by()
            due = every is not None and algorithm.env_steps - evaluated_at >= every
            if not is_evaluated(row) and (due or stopped_by in ("timesteps", "iterations")):
                row |= plain_row(algorithm.evaluate(num_episodes=LEAST_EPISODES if has_no_end else None))
            if is_evaluated(row):
                evaluated_at = algorithm.env_steps
                reached, figure = self._judge(row)
                stopped_by = "reward" if reached and self._has_goal else stopped_by
            if self._files is not None:
                self._files.write(row)
            progress = meter.update(row, self._seconds())
            if verbose == 2 or (verbose and is_evaluated(row)):
                print(progress_line(progress), flush=True)
        return self._outcome(row, stopped_by, (reached, figure))

    def _seconds(self) -> float:
        return time.monotonic() - self._started_at

    def _stopped_by(self) -> StoppedBy | None:
        """Say what ends the run besides its criterion."""
        if self._interrupt.signal_number is not None:
            return "signal"
        algorithm = self._algorithm
        return self._limits.exceeded(
            env_steps=algorithm.env_steps, iteration=algorithm.iteration, seconds=self._seconds()
        )

    def _judge(self, row: Mapping[str, Any]) -> Verdict:
        """Judge an evaluation by the return, the script's criterion, or both."""
        verdicts = []
        if self._limits.reward is not None:
            words = f"return {row[RETURN]:.1f} over {row[EPISODES]:g} episodes, goal {self._limits.reward:g}"
            verdicts.append((self._limits.reached(row[RETURN]), words))
        if self._criterion is not None:
            verdicts.append(self._criterion(self._algorithm, row))
        return all(passed for passed, _ in verdicts), "; ".join(text for _, text in verdicts)

    def _outcome(self, row: Mapping[str, Any], stopped_by: StoppedBy, verdict: Verdict) -> ExampleOutcome:
        """Sum up, and write the end of the folder if there is one."""
        status: Status = "finished"
        if stopped_by == "signal":
            status = "interrupted"
        elif self._has_goal:
            status = "reached" if verdict[0] else "limit"
        checkpoint = None
        if self._files is not None:
            episodes = row[EPISODES]
            outcome = Outcome(
                status=status,
                stopped_by=stopped_by,
                return_mean=row[RETURN],
                num_episodes=int(episodes) if episodes == episodes else 0,  # NaN before the first evaluation
                env_steps=self._algorithm.env_steps,
                iteration=self._algorithm.iteration,
                seconds=self._seconds(),
            )
            checkpoint = self._files.finish(outcome)
        return ExampleOutcome(
            algorithm=self._algorithm,
            reached=verdict[0] or status == "finished",
            figure=verdict[1],
            result=row,
            status=status,
            seconds=self._seconds(),
            checkpoint=checkpoint,
        )
