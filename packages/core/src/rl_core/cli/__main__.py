"""`python -m rl_core.cli`, the same as `rl`."""

import sys

from rl_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
