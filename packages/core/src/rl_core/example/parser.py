"""The flags that every example has. A flag that a script cannot honour is an error, never ignored."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rl_core.cli.main import Parser
from rl_core.cli.options import number_above, positive_int, whole_number

LEAST_EPISODES = 20
"""Episodes of a separate evaluation below which nobody should call a goal reached."""
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

JOINED = "batches are made where they are learned from, which takes less time than to send them on"
TUNE = "this script is one run, not a search"


class Refusal(NamedTuple):
    """A flag that scripts refuse unless they say that they honour it."""

    flag: str
    kind: Callable[[str], Any] | None
    """Reads the value; None for a flag without one."""
    neutral: Any
    """The default: the value that asks for nothing."""
    reason: str
    """Why it is refused."""
    help: str
    """What it does where it is honoured."""


REFUSALS = (
    Refusal("--num-agents", whole_number, 0, "the agents of this script are fixed", "agents; 0: a single-agent env"),
    Refusal("--num-aggregator-actors-per-learner", whole_number, 0, JOINED, "processes that make batches"),
    Refusal("--num-samples", positive_int, 1, TUNE, "trials"),
    Refusal("--max-concurrent-trials", positive_int, None, TUNE, "trials at a time"),
)


class ExampleParser(Parser):
    """Parser of an example, made by `example_parser`; a script adds flags of its own with `add_argument`."""

    def set_defaults(self, **defaults: Any) -> None:
        """Set a script's own defaults, which `--help` then shows; with agents by default, a script needs some."""
        super().set_defaults(**defaults)
        for action in self._actions:
            if action.dest in defaults:
                words = (action.help or "").partition("default: ")[0].rstrip("; ")
                action.help = f"{words}; default: {defaults[action.dest]}".removeprefix("; ")

    def parse_args(  # type: ignore[override] # one signature for what argparse writes as three overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Parse, then refuse flags that do not go together."""
        parsed: argparse.Namespace = super().parse_args(args, namespace)
        if parsed.output is None and (parsed.checkpoint_freq is not None or parsed.checkpoint_at_end):
            self.error("--checkpoint-freq and --checkpoint-at-end need a place for checkpoints: add --output DIR")
        in_episodes = parsed.evaluation_duration != "auto" and parsed.evaluation_duration_unit == "episodes"
        if parsed.as_test and in_episodes and parsed.evaluation_duration < LEAST_EPISODES:
            self.error(f"--as-test judges by at least {LEAST_EPISODES} episodes: raise --evaluation-duration")
        if self.get_default("num_agents") and not parsed.num_agents:
            self.error("--num-agents: got 0, expected at least 1: this script has an env of many agents")
        remote = parsed.num_env_runners or parsed.evaluation_num_env_runners or parsed.num_learners
        if parsed.num_cpus is not None and not remote:
            self.error(
                "--num-cpus sizes a Ray cluster: add --num-env-runners, --num-learners or --evaluation-num-env-runners"
            )
        if parsed.num_cpus_per_learner is not None and not parsed.num_learners:
            self.error("--num-cpus-per-learner is for learners in other processes: add --num-learners")
        return parsed


def example_parser(
    doc: str | None,
    *,
    env: str | None = None,
    algorithms: Sequence[str] = (),
    stop_reward: float | None = None,
    stop_timesteps: int | None = None,
    stop_iters: int | None = None,
    honours: Collection[str] = (),
) -> ExampleParser:
    """Make the parser of a script.

    Args:
        doc: The script's docstring, shown by `--help`.
        env: Default of `--env`; None where the script brings an env of its own, and `--env` is refused.
        algorithms: What `--algo` may name, the default first; empty where the script trains one algorithm, and
            `--algo` may only name that.
        stop_reward: Default of `--stop-reward`: the mean return of the separate evaluation to reach.
        stop_timesteps: Default of `--stop-timesteps`: the env steps it may take.
        stop_iters: Default of `--stop-iters`.
        honours: Flags of `REFUSALS` that this script reads itself, such as `"--num-agents"`.

    Raises:
        ValueError: `honours` names something that is not refused.
    """
    unknown = set(honours) - {refusal.flag for refusal in REFUSALS}
    if unknown:
        raise ValueError(f"example_parser: got honours={sorted(unknown)}, expected flags of REFUSALS. Leave them out.")
    parser = ExampleParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    group = parser.add_argument_group("flags of every example")
    group.add_argument(
        "--algo",
        choices=algorithms or None,
        default=algorithms[0] if algorithms else None,
        help=f"default: {algorithms[0]}" if algorithms else "this script has one; another is refused",
    )
    if env is None:
        group.add_argument("--env", type=_refuse("this script has an env of its own"), help="refused: own env")
    else:
        group.add_argument("--env", default=env, metavar="ID", help=f"gymnasium id; default: {env}")
    _add_goal(group, stop_reward, stop_timesteps, stop_iters)
    _add_evaluation(group)
    _add_run(group)
    for refusal in REFUSALS:
        _add_refusable(group, refusal, honoured=refusal.flag in honours)
    return parser


def _add_goal(group: Any, reward: float | None, timesteps: int | None, iterations: int | None) -> None:
    """Add what ends a run, and the judgement."""
    finite = number_above(-math.inf, float)
    group.add_argument("--stop-reward", type=finite, default=reward, metavar="R", help=_default(reward))
    group.add_argument("--stop-timesteps", type=positive_int, default=timesteps, metavar="N", help=_default(timesteps))
    group.add_argument("--stop-iters", type=positive_int, default=iterations, metavar="N", help=_default(iterations))
    group.add_argument("--as-test", action="store_true", help="exit with 0 only if the criterion was met, else with 1")


def _add_evaluation(group: Any) -> None:
    """Add the flags of the separate evaluation."""
    group.add_argument(
        "--evaluation-interval",
        type=whole_number,
        metavar="N",
        help="iterations between evaluations, 0: only the last; default: about every 5,000 env steps",
    )
    group.add_argument(
        "--evaluation-duration",
        type=_duration,
        default=LEAST_EPISODES,
        metavar="N",
        help=f"episodes or env steps of an evaluation, or auto: as long as training; default: {LEAST_EPISODES}",
    )
    group.add_argument(
        "--evaluation-duration-unit",
        choices=["episodes", "timesteps"],
        default="episodes",
        help="what --evaluation-duration counts; default: episodes",
    )
    group.add_argument("--evaluation-num-env-runners", type=whole_number, metavar="N", help="processes for evaluation")
    group.add_argument("--evaluation-parallel-to-training", action="store_true", help="evaluate while training goes on")


def _add_run(group: Any) -> None:
    """Add how the run is done and what it leaves behind."""
    group.add_argument(
        "--num-env-runners", type=whole_number, metavar="N", help="processes that sample, by Ray; 0: this one"
    )
    group.add_argument(
        "--num-learners", type=whole_number, metavar="N", help="processes that learn together, by Ray; 0: this one"
    )
    group.add_argument("--num-cpus-per-learner", type=positive_int, metavar="N", help="CPUs of each such process")
    share = number_above(-1e-9, float)
    group.add_argument("--num-gpus-per-learner", type=share, metavar="X", help="GPUs of each learner, or a part of one")
    group.add_argument("--num-cpus", type=positive_int, metavar="N", help="CPUs of the Ray cluster that is started")
    group.add_argument("--num-envs-per-env-runner", type=positive_int, metavar="N", help="env slots that step together")
    group.add_argument("--seed", type=whole_number, metavar="S", help="default: 0")
    group.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="new folder for metrics, TensorBoard files, checkpoints and report.html; default: nothing is written",
    )
    group.add_argument("--wandb-project", metavar="TEXT", help="log to this project of Weights & Biases")
    group.add_argument("--wandb-run-name", metavar="TEXT", help="name of the run there")
    group.add_argument("--wandb-key", metavar="TEXT", help="key there; default: WANDB_API_KEY, or `wandb login`")
    group.add_argument("--checkpoint-freq", type=whole_number, metavar="N", help="iterations between checkpoints")
    group.add_argument("--checkpoint-at-end", action="store_true", help="with --output there always is one at the end")
    group.add_argument(
        "--verbose", type=int, choices=[0, 1, 2], default=1, help="0: the last line; 1: evaluations; 2: iterations"
    )
    group.add_argument("--log-level", choices=LOG_LEVELS, default="WARNING", help="of Python's root logger")
    group.add_argument("--no-tune", action="store_true", help="accepted: a plain run is in this process anyway")


def _add_refusable(group: Any, refusal: Refusal, *, honoured: bool) -> None:
    """Add a flag of `REFUSALS`."""
    if refusal.kind is None:
        kind: dict[str, Any] = {"action": "store_true"} if honoured else {"action": _RefuseFlag, "nargs": 0}
    else:
        kind = {"type": refusal.kind if honoured else _refuse(refusal.reason, refusal.kind, refusal.neutral)}
        kind["metavar"] = "N" if refusal.kind in (whole_number, positive_int) else "TEXT"
    words = refusal.help if honoured else f"refused: {refusal.reason}"
    group.add_argument(refusal.flag, default=refusal.neutral, help=words, **kind)


def _duration(text: str) -> int | str:
    """Read a number of episodes or steps, or `auto`."""
    return text if text == "auto" else positive_int(text)


def _default(value: float | None) -> str:
    """Write a default for the help."""
    return "default: none" if value is None else f"default: {value:,}"


def _refuse(reason: str, kind: Callable[[str], Any] = str, neutral: Any = None) -> Callable[[str], Any]:
    """Make an argument type that takes nothing but the neutral value."""

    def parse(text: str) -> Any:
        value = kind(text)
        if neutral is not None and value == neutral:
            return value
        expected = "" if neutral is None else f", expected {neutral}"
        raise argparse.ArgumentTypeError(f"got {text!r}{expected}: {reason}")

    return parse


class _RefuseFlag(argparse.Action):
    """A flag without a value that is refused; its help says why."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Refuse."""
        parser.error(f"{self.option_strings[0]} is {self.help}")
