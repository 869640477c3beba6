"""Versions of Python and of installed packages, found without importing them."""

from __future__ import annotations

import importlib.metadata
import platform


def versions() -> dict[str, str]:
    """Return the versions of Python and of what a run depends on."""
    names = ("rl-core", "torch", "gymnasium", "numpy")
    return {"python": platform.python_version(), **{name: version_of(name) for name in names}}


def version_of(package: str) -> str:
    """Return an installed package's version without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed (source tree)"
