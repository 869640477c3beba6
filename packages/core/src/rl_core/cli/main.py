"""Parser and error handling of the command `rl`."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from rl_core.cli import parsers
from rl_core.cli.commands import add_commands
from rl_core.cli.options import exit_code_of_signal
from rl_core.cli.versions import version_of
from rl_core.errors import RLError, RunError

USAGE_ERROR, UNEXPECTED_ERROR = 2, 1
EPILOG = """exit codes:
  0    done; with --stop-reward: reached
  1    unexpected error
  2    bad input, or training failed; the message says what to do
  3    a limit came before the stop reward
  130  interrupted by Ctrl-C (a checkpoint was saved)

`rl COMMAND --help` shows the options of a command."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors look like all others of the command and name the nearest word."""

    def error(self, message: str) -> NoReturn:
        """Print one line and the way to the help, and exit with 2."""
        self.exit(USAGE_ERROR, f"error: {message}{self._suggestion(message)}\nSee: {self.prog} --help\n")

    def _suggestion(self, message: str) -> str:
        """Suggest what is close to an option that is not known."""
        if "unrecognized arguments" not in message:
            return ""
        given = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
        near = [difflib.get_close_matches(word, self._option_string_actions, n=1) for word in given]
        found = [match for matches in near for match in matches]
        return f". Did you mean {' or '.join(found)}?" if found else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _add_folder_to_path()
        parser, commands = build_parser()
        if not arguments:
            parser.print_help()
            return USAGE_ERROR
        _check_command(arguments, commands)
        options, unknown = parser.parse_known_args(arguments)
        if unknown:
            commands[options.command].error(f"unrecognized arguments: {' '.join(unknown)}")
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except SystemExit as stop:  # argparse: --help and usage errors
        return stop.code if isinstance(stop.code, int) else UNEXPECTED_ERROR
    except BrokenPipeError:  # `rl list | head`: nobody reads on, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return _report(error, debug="--debug" in arguments)


def _add_folder_to_path() -> None:
    """Let `rl train ppo my_envs:Maze-v0` find my_envs.py in this folder; it shadows nothing.

    Raises:
        RunError: the folder is gone.
    """
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        raise RunError("The current folder does not exist any more. Change into another one.") from None
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """Build the parser with core's commands and those of other packages.

    Returns:
        The parser, and those of its commands by name.
    """
    parser = Parser(
        prog="rl",
        description="Train, judge and look at reinforcement-learning agents.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"rl-core {version_of('rl-core')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    parsers.add_commands(subparsers)
    for name, problem in add_commands(subparsers):
        print(f"warning: the command {name!r} of another package could not be loaded: {problem}", file=sys.stderr)
    commands: dict[str, Parser] = dict(subparsers.choices)
    for command in commands.values():
        if "--debug" not in command._option_string_actions:
            command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser, commands


def _check_command(arguments: Sequence[str], commands: dict[str, Parser]) -> None:
    """Refuse an unknown command with the nearest one, where argparse would list them all."""
    first = arguments[0]
    if first.startswith("-") or first in commands:
        return
    matches = difflib.get_close_matches(first, commands, n=1, cutoff=0.5)
    hint = f"Did you mean 'rl {matches[0]}'?" if matches else f"Commands: {', '.join(commands)}."
    print(f"error: there is no command {first!r}. {hint}\nSee: rl --help", file=sys.stderr)
    raise SystemExit(USAGE_ERROR)


def _report(error: BaseException, *, debug: bool) -> int:
    """Print an error as a person wants to read it, and choose the exit code."""
    if debug:
        traceback.print_exception(error)
    notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
    if isinstance(error, KeyboardInterrupt):
        print(f"interrupted{notes}", file=sys.stderr)
        return exit_code_of_signal(None)
    if isinstance(error, RLError):
        print(f"error: {error}{notes}", file=sys.stderr)
        return USAGE_ERROR
    hint = "" if debug else "\nThis was not expected: --debug shows where it happened."
    print(f"error: {type(error).__name__}: {error}{notes}{hint}", file=sys.stderr)
    return UNEXPECTED_ERROR
