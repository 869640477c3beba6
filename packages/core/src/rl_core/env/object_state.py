"""What an object of a user's env consists of: which attributes are its state, and why they may not be all of it.

What depends on the class alone is worked out once: checkpoints are captured between iterations, where time counts.
"""

from __future__ import annotations

import dataclasses
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
_NOT_STATE = frozenset(("spec", "_cached_spec", "metadata", "_metadata", "env_fns", "_saved_kwargs", "render_mode")) | {
    "_ezpickle_args",
    "_ezpickle_kwargs",
    "not_state",
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


def per_class(function: F) -> F:
    """Remember what a function says of each class."""
    return functools.lru_cache(maxsize=4096)(function)  # type: ignore[return-value]


def is_stateless(value: Any) -> bool:
    """Functions, classes, loggers and what only draws: never part of the state."""
    return is_stateless_class(type(value))


@per_class
def is_stateless_class(cls: type) -> bool:
    """Whether all of this class are stateless."""
    return issubclass(cls, _STATELESS) or cls.__module__.partition(".")[0] in ("pygame", "pygame_ce")


def class_path(value: Any) -> str:
    """Where the class of `value` is defined."""
    return facts_of(type(value)).path


@dataclasses.dataclass(frozen=True, slots=True)
class ClassFacts:
    """What of an object is settled by its class."""

    path: str
    """Where the class is defined."""
    is_env: bool
    """Whether it can be reset and stepped, of whatever library it is."""
    offers_state: bool
    """Whether it is an env that says itself what its state is."""
    hides: str
    """Why attributes may not be all there is to an object; empty if they are."""
    slots: tuple[str, ...]
    """Attributes outside `__dict__`."""
    left_out: frozenset[str]
    """Attributes that are no state."""


@per_class
def facts_of(cls: type) -> ClassFacts:
    """Return what is settled by a class."""
    is_env = _has_methods(cls, "reset", "step")
    return ClassFacts(
        path=f"{cls.__module__}:{cls.__qualname__}",
        is_env=is_env,
        offers_state=is_env and _has_methods(cls, "get_state", "set_state"),
        hides=_hidden_by_class(cls, is_env),
        slots=tuple(sorted({name for base in cls.__mro__ for name in _slot_names(base)})),
        left_out=_NOT_STATE | frozenset(getattr(cls, "not_state", ())) if is_env else frozenset(),
    )


def _has_methods(cls: type, *names: str) -> bool:
    return all(callable(getattr(cls, name, None)) for name in names)


def with_subspaces(space: spaces.Space[Any]) -> Iterator[spaces.Space[Any]]:
    """Yield a space and all inside it."""
    yield space
    children = getattr(space, "spaces", ())
    for child in children.values() if isinstance(children, dict) else children:
        yield from with_subspaces(child)


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an object by name, without those that only say how an env was made."""
    facts = facts_of(type(value))
    attributes = {name: getattr(value, name) for name in facts.slots if hasattr(value, name)}
    attributes.update(getattr(value, "__dict__", ()))
    for name in facts.left_out.intersection(attributes):
        del attributes[name]
    return attributes


def _slot_names(cls: type) -> list[str]:
    names = cls.__dict__.get("__slots__", ())
    names = (names,) if isinstance(names, str) else names
    return [
        f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
        for name in names
        if name not in ("__dict__", "__weakref__")
    ]


def hidden_state(value: Any) -> str:
    """Why attributes may not be all there is to an object; empty if they are."""
    facts = facts_of(type(value))
    if not facts.hides and not facts.is_env:
        try:
            object.__reduce_ex__(value, 2)
        except Exception as error:  # object's own test for memory behind the attributes, or a __getstate__ that fails
            return f"keeps state outside its attributes ({error})"
    return facts.hides


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
