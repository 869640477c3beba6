"""Run an example's trials with Ray Tune, and say in the last line whether they met its criterion."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from rl_core.errors import RLError
from rl_core.example.run import NOT_REACHED, RETURN, Verdict, refuse, with_flags
from rl_core.runtime.tune import quiet_run_config

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig


def trials_config(config: AlgorithmConfig, args: argparse.Namespace) -> AlgorithmConfig:
    """Return a copy of the config that all trials have in common, with the flags applied that concern it.

    Raises:
        SystemExit: with 2, if the flags do not fit the script or the config.
    """
    logging.basicConfig(level=args.log_level)
    try:
        return with_flags(config, args)
    except RLError as error:
        refuse(error)


def trials_run_config(args: argparse.Namespace, folder: str, *, callbacks: Sequence[Any] = ()) -> Any:
    """Make Tune's `RunConfig` of what the flags say of the end of a trial and of its checkpoints.

    Args:
        args: As parsed.
        folder: Of `trials_folder`.
        callbacks: Of Tune.
    """
    limits = {RETURN: args.stop_reward, "env_steps": args.stop_timesteps, "training_iteration": args.stop_iters}
    return quiet_run_config(
        folder,
        stop={name: limit for name, limit in limits.items() if limit is not None},
        checkpoint_frequency=args.checkpoint_freq or 0,
        checkpoint_at_end=args.checkpoint_at_end,
        callbacks=callbacks,
    )


@contextlib.contextmanager
def trials_folder(args: argparse.Namespace) -> Iterator[str]:
    """Give Ray Tune a place for its files: `--output`, or a folder that goes when the script ends."""
    if args.output is not None:
        yield str(args.output.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="trials-") as folder:
        yield folder


def finish_trials(tuner: Any, args: argparse.Namespace, *checks: Callable[[Any], Verdict]) -> NoReturn:
    """Run the trials of a Ray Tune search, print how they ended as the last line, and exit as `finish_example` does.

    Trials that failed end the script with 1, with `--as-test` or without.

    Args:
        tuner: A `ray.tune.Tuner` whose trials report what `train()` returns.
        args: As parsed; `--stop-reward` is judged by the best trial's last evaluation.
        checks: What the script finds in the results.
    """
    started_at = time.monotonic()
    results = tuner.fit()
    if results.errors:
        for error in results.errors:
            print(f"error: {error}", file=sys.stderr)
        print(f"failed: {len(results.errors)} of {len(results)} trials, see above", flush=True)
        raise SystemExit(NOT_REACHED)
    best = max((result.metrics.get(RETURN, -math.inf) for result in results if result.metrics), default=-math.inf)
    verdicts = [check(results) for check in checks]
    if args.stop_reward is not None:
        verdicts.insert(0, (best >= args.stop_reward, f"return {best:.1f}, goal {args.stop_reward:g}"))
    reached = all(passed for passed, _ in verdicts)
    env_steps = sum(result.metrics.get("env_steps", 0) for result in results if result.metrics)
    figures = "; ".join(text for _, text in verdicts)
    seconds = time.monotonic() - started_at
    head = "reached" if reached else "not reached"
    print(f"{head}: {figures}; {len(results)} trials, {env_steps:,} env steps, {seconds:.1f} s", flush=True)
    raise SystemExit(NOT_REACHED if args.as_test and not reached else 0)
