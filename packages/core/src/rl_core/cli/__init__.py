"""The command `rl`: one file per subcommand, and how runs are shown while they train."""

from rl_core.cli.main import main

__all__ = ["main"]
