"""Config values to JSON and back, without pickle.

Classes and functions are stored by import path, connectors and extensions (`Storable`) by import path and fields.
Reading a file imports nothing that is not part of rl_core, already imported, or allowed by name, and calls nothing
but subclasses of `Storable`: a file from elsewhere cannot run code.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Collection, Mapping
from typing import Any, cast

from rl_core.config.check import Settings, build_settings
from rl_core.errors import ConfigError

JSON = Any
"""None, bool, int, float, str, or nested lists and string-keyed dicts of those."""


_PLAIN = (bool, int, float, str)


class Storable:
    """Marks a frozen dataclass that may be written to a config file and rebuilt from it: connectors, extensions."""

    __slots__ = ()


def import_path(thing: Any) -> str:
    """Name a class or function as `module:qualname`.

    Raises:
        ConfigError: it has no importable name (a lambda, or something defined inside a function).
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not module or not name or "<" in name:
        what = "a lambda" if name and "<lambda>" in name else f"{name or thing!r}"
        raise ConfigError(
            f"{what} cannot be stored: it has no import path, so nobody could find it again. "
            "Give a class or function defined at the top level of a module."
        )
    return f"{module}:{name}"


def resolve_import(path: object, *, allow: Collection[str] = ()) -> Any:
    """Find the class or function that `import_path` named.

    Args:
        path: `module:qualname`.
        allow: Top-level packages that may be imported besides rl_core and what is already imported, and whose
            functions may be called.

    Raises:
        ConfigError: the path is malformed, may not be imported, or does not exist.
    """
    module_name, colon, qualname = path.partition(":") if isinstance(path, str) else ("", "", "")
    if not colon or not module_name or not qualname:
        raise ConfigError(f"{path!r} is not an import path, expected 'module:name'.")
    check_importable(module_name, allow=allow)
    try:
        thing: Any = importlib.import_module(module_name)
        for part in qualname.split("."):
            thing = getattr(thing, part)
    except (ImportError, AttributeError) as error:
        hint = "Is the package that defines it installed?"
        if module_name == "__main__":
            hint = (
                "The script that was run had it: define it in a module that can be imported, or build the config in a "
                "script that has it too, and call restore(path) of its algorithm."
            )
        raise ConfigError(f"{path!r} cannot be found ({error}). {hint}") from None
    if getattr(thing, "__module__", None) != module_name or module_name.partition(".")[0] in sys.stdlib_module_names:
        # `rl_core.checkpoint:os.system`, `logging.config:dictConfig`: reachable, but nobody stores such a thing.
        raise ConfigError(
            f"{path!r} is not a class or function that {module_name} defines for this; a file may not use it."
        )
    top = module_name.partition(".")[0]
    if not isinstance(thing, type) and top not in ("rl_core", "__main__", *allow):
        # A class is compared with what is expected before it is called; of a function nothing can be known.
        raise ConfigError(
            f"The file names the function {path!r}, to be called. If you trust it, allow {top!r} "
            f"(command line: --allow {top})."
        )
    return thing


def check_importable(module_name: str, *, allow: Collection[str] = ()) -> None:
    """Refuse to import a module that a file names and that neither is imported already nor was allowed."""
    top = module_name.partition(".")[0]
    if top != "rl_core" and top not in allow and module_name not in sys.modules:
        raise ConfigError(
            f"The file names the module {module_name!r}, and importing it would run its code. "
            f"If you trust it, import it first or allow {top!r} (command line: --allow {top})."
        )


def encode(value: Any) -> JSON:
    """Turn a config value into JSON data.

    Raises:
        ConfigError: the value has no stored form.
    """
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        if any(not isinstance(key, str) or key.startswith("$") for key in value):
            raise ConfigError(f"Mapping keys must be strings that do not begin with '$', got {list(value)}.")
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, Storable | Settings):
        if not dataclasses.is_dataclass(cast(object, value)):
            raise ConfigError(
                f"{type(value).__name__} cannot be stored: write @dataclass(frozen=True) above the class."
            )
        stored = [field.name for field in dataclasses.fields(cast(Any, value)) if field.init]
        fields = {name: encode(getattr(value, name)) for name in stored}
        return fields if isinstance(value, Settings) else {"$object": import_path(type(value)), "fields": fields}
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return {"$import": import_path(value)}
    return {"$instance": import_path(type(value))}


def decode(value: JSON, *, allow: Collection[str] = ()) -> Any:
    """Turn JSON data back into config values; settings are rebuilt by their section.

    Raises:
        ConfigError: something named in the file may not be imported, or cannot be rebuilt.
    """
    if isinstance(value, list):
        return tuple(decode(item, allow=allow) for item in value)
    if not isinstance(value, dict):
        return value
    if "$import" in value:
        return resolve_import(value["$import"], allow=allow)
    if "$instance" in value:
        raise ConfigError(
            f"An instance of {value['$instance']} was given to the config, and a file cannot hold it. "
            "Build the config in Python with that object and use Algorithm.restore(path)."
        )
    if "$object" in value:
        kind = resolve_import(value["$object"], allow=allow)
        if not (isinstance(kind, type) and issubclass(kind, Storable)):
            raise ConfigError(f"{value['$object']!r} is not a connector or extension; a file may not create it.")
        return build_settings(kind, decode(value.get("fields", {}), allow=allow), where=kind.__name__)
    return {key: decode(item, allow=allow) for key, item in value.items()}
