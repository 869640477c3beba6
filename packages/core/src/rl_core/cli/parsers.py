"""The arguments of core's commands. A command's own module, and torch with it, is imported when it runs."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from rl_core.cli import options

# argparse has no public name for what add_subparsers() returns
Subparsers: TypeAlias = "argparse._SubParsersAction[Any]"

TRAIN_DESCRIPTION = """Train an algorithm on an env in a new run folder, evaluating it on separate episodes.

The last line says how it ended, with return, env steps and seconds."""
TRAIN_EXAMPLES = """examples:
  rl train ppo CartPole-v1 --stop-reward 475
  rl train ppo LunarLander-v3 --stop-reward 200 --stop-time 600 --set training.lr=3e-4 --seed 1"""
RESUME_DESCRIPTION = """Go on with a run from its newest good checkpoint, as if it had not stopped.

The limits are those it was started with, unless given anew: --stop-timesteps and the others count from the beginning
of the run. Metrics are appended; rows after the checkpoint are replaced."""
PICTURE_FORMATS = (".png", ".svg", ".pdf")
PLOT_DESCRIPTION = """Draw the evaluation and training returns of runs against env steps.

Runs of the same algorithm and env count as seeds of one: their mean and a band of one standard deviation are drawn."""


def add_commands(subparsers: Subparsers) -> None:
    """Add core's commands, in the order of the help."""
    for add in (add_train, add_resume, add_evaluate, add_record, add_plot, add_list, add_info):
        add(subparsers)


def add_train(subparsers: Subparsers) -> None:
    """Add `rl train`."""
    parser = subparsers.add_parser(
        "train",
        help="train an algorithm on an env",
        description=TRAIN_DESCRIPTION,
        epilog=TRAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("algorithm", metavar="ALGO", help="such as ppo; `rl info` lists them")
    parser.add_argument(
        "env",
        metavar="ENV",
        help="gymnasium id, such as CartPole-v1, or module:Env-v0 where importing the module registers it",
    )
    options.add_limits(parser)
    parser.add_argument("--seed", type=options.whole_number, metavar="S", help="default: 0")
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="new folder of the run; default: runs/ALGO-ENV-NUMBER"
    )
    parser.add_argument(
        "--sink",
        dest="sinks",
        action="append",
        choices=["csv", "mlflow", "wandb"],
        default=[],
        help="write results there besides metrics.jsonl and tensorboard/ in the run folder; may be repeated",
    )
    options.add_settings(parser)
    options.add_json(parser)
    parser.set_defaults(run=_run_of("train"))


def add_resume(subparsers: Subparsers) -> None:
    """Add `rl resume`."""
    parser = subparsers.add_parser(
        "resume",
        help="go on with a run",
        description=RESUME_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="folder of the run")
    options.add_limits(parser)
    options.add_settings(parser)
    options.add_allow(parser)
    options.add_json(parser)
    parser.set_defaults(run=_run_of("resume"))


def add_evaluate(subparsers: Subparsers) -> None:
    """Add `rl evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="play episodes with a trained policy",
        description="Play episodes with a trained policy.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "path", type=Path, metavar="RUN|CHECKPOINT", help="folder of a run (its newest checkpoint) or a checkpoint"
    )
    parser.add_argument("--episodes", type=options.positive_int, default=20, metavar="N", help="default: 20")
    parser.add_argument(
        "--explore",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="draw actions, or take the likeliest; default: the setting evaluation.explore of the run",
    )
    options.add_allow(parser)
    options.add_json(parser)
    parser.set_defaults(run=_run_of("evaluate"))


def add_record(subparsers: Subparsers) -> None:
    """Add `rl record`."""
    parser = subparsers.add_parser(
        "record",
        help="film a trained policy",
        description="Play episodes with a trained policy in an env rendered as rgb_array, and write them as a video.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "path", type=Path, metavar="RUN|CHECKPOINT", help="folder of a run (its newest checkpoint) or a checkpoint"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.mp4", help="video to write")
    parser.add_argument("--episodes", type=options.positive_int, default=1, metavar="N", help="default: 1")
    parser.add_argument(
        "--max-steps",
        type=options.positive_int,
        default=10_000,
        metavar="N",
        help="steps per episode at most; default: 10,000",
    )
    parser.add_argument("--seed", type=options.whole_number, default=0, metavar="S", help="of the env; default: 0")
    parser.add_argument("--explore", action="store_true", help="draw actions; default: take the likeliest")
    options.add_allow(parser)
    parser.set_defaults(run=_run_of("record"))


def add_plot(subparsers: Subparsers) -> None:
    """Add `rl plot`."""
    parser = subparsers.add_parser(
        "plot",
        help="draw learning curves of runs",
        description=PLOT_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"picture to write: {', '.join(PICTURE_FORMATS)}",
    )
    parser.set_defaults(run=_run_of("plot"))


def add_list(subparsers: Subparsers) -> None:
    """Add `rl list`."""
    parser = subparsers.add_parser(
        "list",
        help="show runs with their figures",
        description="Show the runs in a folder, oldest first: training return and evaluation are the newest known.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), metavar="DIR", help="default: runs")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.set_defaults(run=_run_of("list_runs"))


def add_info(subparsers: Subparsers) -> None:
    """Add `rl info`."""
    parser = subparsers.add_parser(
        "info",
        help="show versions, devices and threads",
        description="Show versions, devices, threads, extras and algorithms: what a bug report needs.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run_of("info"))


def _run_of(name: str) -> Callable[[argparse.Namespace], int]:
    """Return a function that imports the command's module and calls its `run`."""

    def run(arguments: argparse.Namespace) -> int:
        code: int = importlib.import_module(f"rl_core.cli.{name}").run(arguments)
        return code

    return run
