"""What an object of a user's env consists of: which attributes are its state, and why they may not be all of it.

What depends on the class alone is worked out once: checkpoints are captured between iterations, where time counts.
"""

from __future__ import annotations

import functools
import importlib.machinery
import logging
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv

F = TypeVar("F", bound=Callable[..., Any])

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the type was made by a class statement, or poses as if

# Part of how an env was made, not of where it is.
_NOT_STATE = {"spec", "_cached_spec", "metadata", "_metadata", "env_fns", "_saved_kwargs", "_ezpickle_args"} | {
    "_ezpickle_kwargs",
    "render_mode",
}
_STATELESS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodWrapperType,
    types.ModuleType,
    functools.partial,
    logging.Logger,
    type,
    np.ufunc,
    np.dtype,
    EnvSpec,
)
_HARMLESS_EXTENSIONS = {"numpy", "scipy", "pygame", "cv2", "PIL", "torch", "numba", *sys.stdlib_module_names}


def _per_class(function: F) -> F:
    """Remember what a function says of each class."""
    return functools.lru_cache(maxsize=4096)(function)  # type: ignore[return-value]


def is_stateless(value: Any) -> bool:
    """Functions, classes, loggers and what only draws: never part of the state."""
    return _is_stateless_class(type(value))


@_per_class
def _is_stateless_class(cls: type) -> bool:
    return issubclass(cls, _STATELESS) or cls.__module__.partition(".")[0] in ("pygame", "pygame_ce")


def class_path(value: Any) -> str:
    """Where the class of `value` is defined."""
    return f"{type(value).__module__}:{type(value).__qualname__}"


def is_env_object(value: Any) -> bool:
    """Whether a value can be reset and stepped, of whatever library it is."""
    return _has_methods(type(value), "reset", "step")


def offers_state(env: Any) -> bool:
    """Whether an env says itself what its state is."""
    return _has_methods(type(env), "get_state", "set_state")


@_per_class
def _has_methods(cls: type, *names: str) -> bool:
    return all(callable(getattr(cls, name, None)) for name in names)


def with_subspaces(space: spaces.Space[Any]) -> Iterator[spaces.Space[Any]]:
    """Yield a space and all inside it."""
    yield space
    children = getattr(space, "spaces", ())
    for child in children.values() if isinstance(children, dict) else children:
        yield from with_subspaces(child)


def attributes_of(value: Any, is_env: bool) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an object with their names, without those that only say how an env was made."""
    for name in _slots(type(value)):
        if hasattr(value, name):
            yield name, getattr(value, name)
    for name, attribute in list(getattr(value, "__dict__", {}).items()):
        if not (is_env and name in _NOT_STATE):
            yield name, attribute


@_per_class
def _slots(cls: type) -> list[str]:
    return sorted({name for base in cls.__mro__ for name in _slot_names(base)})


def _slot_names(cls: type) -> list[str]:
    names = cls.__dict__.get("__slots__", ())
    names = (names,) if isinstance(names, str) else names
    return [
        f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
        for name in names
        if name not in ("__dict__", "__weakref__")
    ]


def hidden_state(value: Any, is_env: bool) -> str:
    """Why attributes may not be all there is to an object; empty if they are."""
    reason = _hidden_by_class(type(value), is_env)
    if not reason and not is_env:
        try:
            object.__reduce_ex__(value, 2)
        except Exception as error:  # object's own test for memory behind the attributes, or a __getstate__ that fails
            return f"keeps state outside its attributes ({error})"
    return reason


@_per_class
def _hidden_by_class(cls: type, is_env: bool) -> str:
    if issubclass(cls, AsyncVectorEnv):
        return "runs its envs in processes that cannot be asked; make_vector_env makes ones that can"
    builtin = next((base for base in cls.__mro__ if base is not object and not base.__flags__ & _HEAP_TYPE), None)
    if builtin is not None:
        return f"is built on {builtin.__name__}, whose content is not in its attributes"
    own_pickling = any(getattr(cls, name) is not getattr(object, name) for name in ("__reduce__", "__reduce_ex__"))
    if own_pickling and not is_env:  # an env's own pickling only remembers how it was made
        return "has its own pickling, so that its attributes may not be all its state"
    return next((reason for base in cls.__mro__ if (reason := _extension_used_by(base.__module__))), "")


@functools.cache
def _extension_used_by(module_name: str) -> str:
    if module_name.partition(".")[0] in {"builtins", "gymnasium", "rl_core", *_HARMLESS_EXTENSIONS}:
        return ""
    for used in list(vars(sys.modules.get(module_name, types)).values()):
        module = sys.modules.get(getattr(used, "__module__", None) or "") if callable(used) else used
        spec = getattr(module, "__spec__", None) if isinstance(module, types.ModuleType) else None
        if spec is None or spec.name.partition(".")[0] in _HARMLESS_EXTENSIONS:
            continue
        if isinstance(spec.loader, importlib.machinery.ExtensionFileLoader):
            return f"is made with the extension module {spec.name}, which may keep state of its own"
    return ""
