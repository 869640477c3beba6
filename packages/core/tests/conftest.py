"""Makes the helper modules that several test files share importable: connectors, envs, an extension."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent / folder) for folder in ("helpers", "algorithm")]
