"""Names of a package that are imported on first use (PEP 562)."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__`, which imports a public name and keeps it, and its `__dir__`.

    Args:
        package: Its `__name__`.
        modules: By name the module, relative to the package, that defines it.
    """
    here = vars(sys.modules[package])

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        here[name] = getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        return here[name]

    def names() -> list[str]:
        return sorted({*here, *modules})

    return find, names
