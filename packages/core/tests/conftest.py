"""Makes the helper modules that several test files share importable, and what they build end."""

import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent / folder) for folder in ("helpers", "algorithm")]


@pytest.fixture
def build():
    """Build algorithms and stop them at the end."""
    built = []

    def make(given):
        built.append(given.build())
        return built[-1]

    yield make
    for algorithm in built:
        algorithm.stop()
