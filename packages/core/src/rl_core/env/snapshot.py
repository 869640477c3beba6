"""The exact state of environments written in Python, as plain data, so that a resumed run continues bit for bit.

`capture` walks the attributes of an env, of the wrappers around it and of the Python objects it is made of, and
notes plain values, numpy arrays and random generators. `restore` sets them on an env made and reset in the same way.
Nothing is pickled: the result holds dicts, lists, strings, numbers and numeric arrays, fit for JSON and safetensors,
and restoring never imports, calls or constructs what it names.

Where that is not exact it says no instead: for C++ objects, open files, arrays that are views of each other, ...
An env can take this into its own hands with `get_state()` (plain values and arrays, or None for "not now") and
`set_state(state)`. It has to if its state lives behind a handle, in module globals, in a closure or another process.
"""

from __future__ import annotations

import copy
import enum
import functools
import math
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_core.env.object_state import (
    attributes_of,
    class_path,
    hidden_state,
    is_env_object,
    is_stateless,
    offers_state,
    with_subspaces,
)
from rl_core.errors import CheckpointError

Node = Any
"""A raw None, bool, int, finite float or str, or a dict with the key `kind`."""

_MOST_VALUES = 500_000
_SIMPLE = frozenset((type(None), bool, int, str))
_MISSING = object()
_BIT_GENERATORS = {"PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"}
_WITHOUT_ARRAYS = {"PCG64", "PCG64DXSM"}
_CONTAINERS: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset", deque: "deque"}
_MAPPINGS: dict[type, str] = {dict: "dict", OrderedDict: "ordered_dict", Counter: "counter", defaultdict: "defaultdict"}


def capture(env: Any) -> tuple[dict[str, Any] | None, str]:
    """The state of an env (or a list of envs) as data, or None and the reason why it cannot be captured exactly."""
    walk = _Capture()
    try:
        node = walk.encode(env, type(env).__name__)
        walk.check_views()
    except _CannotCaptureError as error:
        return None, str(error)
    except RecursionError:
        return None, "the env's objects are nested too deeply"
    return {"version": 1, "root": node}, ""


def restore(env: Any, state: Any) -> None:
    """Set a captured state on an env (or list of envs) that was made in the same way and reset.

    Raises:
        CheckpointError: If the state is malformed or does not fit; the env is then unchanged.
    """
    if not isinstance(state, dict) or state.get("version") != 1 or "root" not in state:
        raise CheckpointError("The saved env state is malformed: expected version 1 and a root.")
    walk = _Restore()
    try:
        walk.decode(state["root"], env, type(env).__name__)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"The saved env state is malformed near {walk.path}: {error!r}.") from error
    for action in walk.actions:
        action()


class _CannotCaptureError(Exception):
    """Carries the reason in words."""


class _Capture:
    def __init__(self) -> None:
        self._ids: dict[int, int] = {}
        self._keep: list[Any] = []  # a temporary that is freed would pass its id() on
        self._arrays: list[tuple[str, np.ndarray[Any, Any]]] = []
        self._count = 0

    def encode(self, value: Any, path: str) -> Node:
        self._count += 1
        if self._count > _MOST_VALUES:
            raise _CannotCaptureError(f"the env holds more than {_MOST_VALUES} values")
        kind = type(value)
        if kind in _SIMPLE or (kind is float and math.isfinite(value)):
            return value
        if kind in (float, range, bytes) or isinstance(value, np.generic | enum.Enum):
            return _encode_value(value, path)
        if is_stateless(value):
            return {"kind": "stateless"}
        if kind is tuple or kind is frozenset:
            return {"kind": _CONTAINERS[kind], "items": self._items(value, path)}
        if id(value) in self._ids:
            return {"kind": "same", "id": self._ids[id(value)]}
        self._ids[id(value)] = len(self._keep)
        self._keep.append(value)
        return {**self._encode_shared(value, path), "id": self._ids[id(value)]}

    def _encode_shared(self, value: Any, path: str) -> dict[str, Any]:
        """Things of which two attributes may hold the same one."""
        kind = type(value)
        if kind in _CONTAINERS:
            node = {"kind": _CONTAINERS[kind], "items": self._items(value, path)}
            return node | ({"maxlen": value.maxlen} if kind is deque else {})
        if kind in _MAPPINGS:
            items = [[self.encode(key, f"{path}[key]"), self.encode(v, f"{path}[{key!r}]")] for key, v in value.items()]
            return {"kind": _MAPPINGS[kind], "items": items}
        if kind is np.ndarray:
            self._arrays.append((path, value))
            return _encode_array(value, path)
        if kind in (np.random.Generator, np.random.RandomState, random.Random):
            return self._encode_random(value, path)
        if isinstance(value, spaces.Space):  # an env may sample from its spaces
            rngs = [space._np_random for space in with_subspaces(value)]
            return {"kind": "space", "random": [self.encode(rng, f"{path}.np_random") for rng in rngs]}
        return self._encode_object(value, path)

    def _items(self, value: Any, path: str) -> list[Node]:
        if isinstance(value, set | frozenset) and list(type(value)(list(value))) != list(value):
            raise _CannotCaptureError(f"{path} is a set whose iteration order cannot be rebuilt")
        return [self.encode(item, f"{path}[{index}]") for index, item in enumerate(value)]

    def _encode_random(self, value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, random.Random):
            return {"kind": "python_random", "state": self.encode(value.getstate(), path)}
        if isinstance(value, np.random.RandomState):
            return {"kind": "random_state", "state": self.encode(value.get_state(legacy=False), path)}
        state = value.bit_generator.state
        if state["bit_generator"] not in _BIT_GENERATORS:
            raise _CannotCaptureError(f"{path} is a random generator of a foreign kind")
        if state["bit_generator"] in _WITHOUT_ARRAYS:  # gymnasium's, of which an env has a dozen
            return {"kind": "plain_generator", "state": state}
        return {"kind": "generator", "state": self.encode(state, path)}

    def _encode_object(self, value: Any, path: str) -> dict[str, Any]:
        is_env = is_env_object(value)
        if is_env and offers_state(value):
            return self._encode_own(value, path)
        if reason := hidden_state(value, is_env):
            raise _CannotCaptureError(f"{path} ({class_path(value)}) {reason}")
        attributes = {}
        for name, attribute in attributes_of(value, is_env):
            node = attribute if type(attribute) in _SIMPLE else self.encode(attribute, f"{path}.{name}")
            if not (isinstance(node, dict) and node["kind"] == "stateless"):
                attributes[name] = node
        return {"kind": "object", "class": class_path(value), "attributes": attributes}

    def _encode_own(self, env: Any, path: str) -> dict[str, Any]:
        try:
            state = env.get_state()
        except Exception as error:  # whatever the user's method raises means the same: no state
            raise _CannotCaptureError(f"{path}.get_state() raised {type(error).__name__}: {error}") from error
        if state is None:
            raise _CannotCaptureError(f"{path}.get_state() returned None")
        rng = vars(env).get("_np_random")  # easily forgotten in get_state
        state_node = self.encode(state, f"{path}.get_state()")
        return {"kind": "own", "class": class_path(env), "state": state_node, "random": self.encode(rng, path)}

    def check_views(self) -> None:
        """Refuse arrays that overlap: after restoring, writing to one would no longer change the other."""
        by_memory: dict[int, list[tuple[str, np.ndarray[Any, Any]]]] = {}
        for path, array in self._arrays:
            owner: Any = array
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            by_memory.setdefault(id(owner), []).append((path, array))
        for group in by_memory.values():
            for index, (path, array) in enumerate(group):
                for other_path, other in group[:index]:
                    if np.may_share_memory(array, other):
                        raise _CannotCaptureError(f"{path} and {other_path} are views of the same memory")


class _Restore:
    """Decodes a whole state first and collects what to do, so that one that does not fit changes nothing."""

    def __init__(self) -> None:
        self.actions: list[Callable[[], Any]] = []
        self.path = ""
        self._by_id: dict[int, Any] = {}
        self._taken: set[int] = set()  # id() of the objects in `_by_id` that stand for a saved one

    def decode(self, node: Node, current: Any, path: str) -> Any:
        self.path = path
        if node is None or isinstance(node, bool | int | float | str):
            return node
        kind = node["kind"]
        if kind in _VALUE_DECODERS:
            return _VALUE_DECODERS[kind](node)
        if kind == "same":
            return self._by_id[node["id"]]
        if kind == "stateless":
            return self._existing(current, path, lambda value: is_stateless(value), "a function or the like")
        if kind == "enum":
            self._existing(current, path, lambda value: class_path(value) == node["class"], node["class"])
            return type(current)[node["name"]]
        if kind in ("tuple", "frozenset"):
            items = self._decode_items(node, current, path)
            return tuple(items) if kind == "tuple" else frozenset(items)
        return self._decode_shared(node, current, path)

    def _decode_shared(self, node: dict[str, Any], current: Any, path: str) -> Any:
        kind, node_id = node["kind"], node["id"]
        if kind in ("object", "own", "space"):
            # Registered first: its parts may refer to it.
            expected = node.get("class")
            fits = (lambda v: isinstance(v, spaces.Space)) if expected is None else lambda v: class_path(v) == expected
            current = self._existing(current, path, fits, f"{expected or 'a space'}")
            if kind == "object":
                current = self._untaken(current, path)
            self._by_id[node_id] = current
            ({"object": self._object, "own": self._own, "space": self._space}[kind])(node, current, path)
            return current
        value: Any
        if kind in ("list", "set", "deque"):
            value = self._by_id[node_id] = _empty(kind, node, current)
            (value.update if kind == "set" else value.extend)(self._decode_items(node, current, path))
        elif kind in _MAPPINGS.values():
            if kind == "defaultdict":  # its factory is a function, and comes from the env
                self._existing(current, path, lambda v: type(v) is defaultdict, "a defaultdict")
            value = self._by_id[node_id] = _empty(kind, node, current)
            for key_node, item in node["items"]:
                key = self.decode(key_node, _MISSING, f"{path}[key]")
                old = current.get(key, _MISSING) if isinstance(current, dict) else _MISSING
                value[key] = self.decode(item, old, f"{path}[{key!r}]")
        elif kind == "array":
            value = self._by_id[node_id] = _decode_array(node)
        elif kind == "plain_generator":
            value = self._by_id[node_id] = _decode_random("generator", node["state"])
        else:
            value = self._by_id[node_id] = _decode_random(kind, self.decode(node["state"], _MISSING, path))
        return value

    def _decode_items(self, node: dict[str, Any], current: Any, path: str) -> list[Any]:
        old = list(current) if isinstance(current, list | tuple | deque) else []
        old += [_MISSING] * (len(node["items"]) - len(old))
        return [self.decode(item, old[i], f"{path}[{i}]") for i, item in enumerate(node["items"])]

    def _existing(self, current: Any, path: str, fits: Callable[[Any], bool], what: str) -> Any:
        if current is _MISSING or not fits(current):
            got = "nothing" if current is _MISSING else class_path(current)
            raise CheckpointError(
                f"The saved env state has {what} at {path}, where the env has {got}: it was saved with another env, or "
                "the env makes such objects while it runs. Restart the episodes, or give the env get_state/set_state."
            )
        return current

    def _untaken(self, current: Any, path: str) -> Any:
        """The object, or a copy where it stands for another saved one already, as the references of the env differ."""
        if id(current) in self._taken:
            if is_env_object(current):
                raise CheckpointError(f"The saved env state has two envs where the env has one, at {path}.")
            current = copy.copy(current)
        self._taken.add(id(current))
        return current

    def _object(self, node: dict[str, Any], current: Any, path: str) -> None:
        is_env = is_env_object(current)
        present = dict(attributes_of(current, is_env))
        for name, attribute in node["attributes"].items():
            old = present.get(name, getattr(type(current), name, _MISSING))
            if old is _MISSING or is_stateless(old) or (name not in present and hasattr(old, "__get__")):
                raise CheckpointError(
                    f"The saved env state sets {path}.{name}, which {class_path(current)} does not have as data. It "
                    "was saved with another version, or the env creates it while it runs: do that in __init__ or reset."
                )
            value = self.decode(attribute, old, f"{path}.{name}")
            self.actions.append(functools.partial(object.__setattr__, current, name, value))

    def _own(self, node: dict[str, Any], current: Any, path: str) -> None:
        if not offers_state(current):
            raise CheckpointError(f"The saved env state was made by {path}.get_state(), which the env no longer has.")
        state = self.decode(node["state"], _MISSING, f"{path}.get_state()")
        rng = self.decode(node["random"], _MISSING, path)
        self.actions.append(functools.partial(object.__setattr__, current, "_np_random", rng))
        self.actions.append(functools.partial(current.set_state, state))

    def _space(self, node: dict[str, Any], current: Any, path: str) -> None:
        parts = list(with_subspaces(current))
        if len(parts) != len(node["random"]):
            raise CheckpointError(f"The saved env state has a space of another structure at {path}.")
        for part, rng_node in zip(parts, node["random"], strict=True):
            rng = self.decode(rng_node, _MISSING, f"{path}.np_random")
            self.actions.append(functools.partial(object.__setattr__, part, "_np_random", rng))


# Values ---------------------------------------------------------------------------------------------------------------


def _encode_value(value: Any, path: str) -> dict[str, Any]:
    if isinstance(value, enum.Enum):
        return {"kind": "enum", "class": class_path(value), "name": value.name}
    if isinstance(value, np.generic):
        if value.dtype.kind not in "biufU" or (value.dtype.kind != "U" and value.dtype.itemsize > 8):
            raise _CannotCaptureError(f"{path} is a numpy scalar of type {value.dtype}")
        raw = value.item()
        finite = not isinstance(raw, float) or math.isfinite(raw)
        return {"kind": "scalar", "dtype": value.dtype.str, "value": raw if finite else repr(raw)}
    if isinstance(value, range):
        return {"kind": "range", "value": [value.start, value.stop, value.step]}
    if isinstance(value, bytes):
        return {"kind": "bytes", "value": value.hex()}
    # JSON has neither infinities nor NaN.
    return {"kind": "float", "value": repr(value)}


def _empty(kind: str, node: dict[str, Any], current: Any) -> Any:
    if kind == "deque":
        return deque(maxlen=node["maxlen"])
    if kind == "defaultdict":
        return defaultdict(current.default_factory)
    return {"list": list, "set": set, "dict": dict, "ordered_dict": OrderedDict, "counter": Counter}[kind]()


_VALUE_DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "float": lambda node: float(node["value"]),
    "scalar": lambda node: _numeric_type(node["dtype"], "biufU").type(node["value"]),
    "range": lambda node: range(*node["value"]),
    "bytes": lambda node: bytes.fromhex(node["value"]),
}


def _encode_array(array: np.ndarray[Any, Any], path: str) -> dict[str, Any]:
    node: dict[str, Any] = {"kind": "array", "fortran": array.flags.f_contiguous and not array.flags.c_contiguous}
    if array.dtype.kind in "biuf" and array.dtype.isnative and array.dtype.itemsize <= 8:
        return node | {"value": np.array(array, order="C")}
    if array.dtype.kind not in "biufcSUMm":
        raise _CannotCaptureError(f"{path} is an array of type {array.dtype}")
    data = np.frombuffer(np.ascontiguousarray(array).tobytes(), dtype=np.uint8).copy()
    return node | {"dtype": array.dtype.str, "shape": list(array.shape), "value": data}


def _decode_array(node: dict[str, Any]) -> np.ndarray[Any, Any]:
    value = node["value"]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise ValueError(f"expected a numeric array, got {type(value).__name__}")
    if "dtype" in node:
        dtype = _numeric_type(node["dtype"], "biufcSUMm")
        value = np.frombuffer(value.astype(np.uint8).tobytes(), dtype=dtype).reshape(node["shape"])
    return np.array(value, order="F" if node["fortran"] else "C")


def _numeric_type(name: Any, kinds: str) -> np.dtype[Any]:
    dtype = np.dtype(str(name))
    if dtype.kind not in kinds:
        raise ValueError(f"{name!r} is not a type that is saved")
    return dtype


def _decode_random(kind: str, state: Any) -> Any:
    if kind == "python_random":
        python = random.Random()
        python.setstate(state)
        return python
    name = state["bit_generator"]
    if kind not in ("generator", "random_state") or name not in _BIT_GENERATORS:
        raise ValueError(f"{kind!r} with {name!r} is not a random generator that is saved")
    if kind == "random_state":
        legacy = np.random.RandomState(getattr(np.random, name)())
        legacy.set_state(state)
        return legacy
    bit_generator = getattr(np.random, name)()
    bit_generator.state = state
    return np.random.Generator(bit_generator)
