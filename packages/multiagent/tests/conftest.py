"""Makes the helper modules that several test files share importable."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "helpers"))
