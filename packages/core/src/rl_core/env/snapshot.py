"""The exact state of environments written in Python, as plain data, so that a resumed run continues bit for bit.

`capture` walks the attributes of an env, of the wrappers around it and of the Python objects it is made of, and
notes plain values, numpy arrays and random generators. `restore` sets them on an env made and reset in the same way.
Nothing is pickled: the result holds dicts, lists, strings, numbers and numeric arrays, fit for JSON and safetensors,
and restoring never imports, calls or constructs what it names.

Where that is not exact it says no instead: for C++ objects, open files, arrays that are views of each other, ...
The class of an env can name attributes that do not matter, such as caches, in `not_state`.
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

from rl_core.checkpoint_files import Json
from rl_core.env.object_state import (
    attributes_of,
    class_path,
    facts_of,
    hidden_state,
    is_stateless,
    is_stateless_class,
    per_class,
    with_subspaces,
)
from rl_core.errors import CheckpointError

Node = Any
"""A raw None, bool, int, finite float or str, or a dict with the key `kind`."""

_MOST_VALUES = 500_000
_SIMPLE, _TEXT = frozenset((type(None), bool, int, str)), frozenset((str,))
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
    return {"version": 1, "root": Json(node), "arrays": walk.arrays}, ""


def restore(env: Any, state: Any) -> None:
    """Set a captured state on an env (or list of envs) that was made in the same way and reset.

    Raises:
        CheckpointError: If the state is malformed or does not fit; the env is then unchanged.
    """
    if not isinstance(state, dict) or state.get("version") != 1 or not {"root", "arrays"} <= state.keys():
        raise CheckpointError("The saved env state is malformed: expected version 1, a root and arrays.")
    walk = _Restore(state["arrays"])
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
        self.arrays: list[np.ndarray[Any, Any]] = []
        """Copies, by the `place` that nodes give."""
        self._ids: dict[int, int] = {}
        self._keep: list[Any] = []  # a temporary that is freed would pass its id() on
        self._originals: list[tuple[str, np.ndarray[Any, Any]]] = []
        self._count = 0

    def encode(self, value: Any, path: str) -> Node:
        kind = type(value)
        if kind in _SIMPLE or (kind is float and math.isfinite(value)):
            return value
        self._count_in(1)
        encoder, is_shared = _encoder_of(kind)
        if not is_shared:
            return encoder(self, value, path)
        node_id = self._ids.get(id(value))
        if node_id is not None:
            return {"kind": "same", "id": node_id}
        node_id = self._ids[id(value)] = len(self._keep)
        self._keep.append(value)
        node = encoder(self, value, path)
        node["id"] = node_id
        return node

    def container(self, value: Any, path: str) -> dict[str, Any]:
        """Encode a list or the like, with what is in it."""
        kind = type(value)
        if issubclass(kind, set | frozenset) and list(kind(list(value))) != list(value):
            raise _CannotCaptureError(f"{path} is a set whose iteration order cannot be rebuilt")
        self._count_in(len(value))
        plain = _SIMPLE.issuperset(map(type, value))
        items = [item if plain else self.encode(item, f"{path}[{index}]") for index, item in enumerate(value)]
        node = {"kind": _CONTAINERS[kind], "items": items}
        return node | ({"maxlen": value.maxlen} if kind is deque else {})

    def mapping(self, value: Any, path: str) -> dict[str, Any]:
        """Encode a dict or the like, with what is in it."""
        self._count_in(len(value))
        items = [[self.encode(key, f"{path}[key]"), self.encode(v, f"{path}[{key!r}]")] for key, v in value.items()]
        return {"kind": _MAPPINGS[type(value)], "items": items}

    def array(self, value: Any, path: str) -> dict[str, Any]:
        """Encode an array, which a copy stands for among `arrays`."""
        node, copied = _encode_array(value, path)
        node["place"] = len(self.arrays)
        self.arrays.append(copied)
        self._originals.append((path, value))
        return node

    def generator(self, value: np.random.Generator, path: str) -> dict[str, Any]:
        """Encode a random generator."""
        state = value.bit_generator.state
        if state["bit_generator"] not in _BIT_GENERATORS:
            raise _CannotCaptureError(f"{path} is a random generator of a foreign kind")
        if state["bit_generator"] in _WITHOUT_ARRAYS:  # gymnasium's, of which an env has a dozen
            return {"kind": "plain_generator", "state": state}
        return {"kind": "generator", "state": self.encode(state, path)}

    def other_generator(self, value: np.random.RandomState | random.Random, path: str) -> dict[str, Any]:
        """Encode a random generator of numpy's old kind, or of Python."""
        if isinstance(value, random.Random):
            return {"kind": "python_random", "state": self.encode(value.getstate(), path)}
        return {"kind": "random_state", "state": self.encode(value.get_state(legacy=False), path)}

    def space(self, value: spaces.Space[Any], path: str) -> dict[str, Any]:
        """Encode the generators of a space: an env may sample from it."""
        rngs = [space._np_random for space in with_subspaces(value)]
        return {"kind": "space", "random": [self.encode(rng, f"{path}.np_random") for rng in rngs]}

    def instance(self, value: Any, path: str) -> dict[str, Any]:
        """Encode an object by its attributes, or by what it says itself."""
        facts = facts_of(type(value))
        if facts.offers_state:
            return self._own(value, path)
        if reason := hidden_state(value):
            raise _CannotCaptureError(f"{path} ({facts.path}) {reason}")
        nodes: dict[str, Node] = attributes_of(value)
        if not _TEXT.issuperset(map(type, nodes)) or "$" in "".join(nodes):  # which checkpoints mark arrays with
            raise _CannotCaptureError(f"{path} has attributes with names that no code can have written: {list(nodes)}")
        for name, attribute in list(nodes.items()):
            kind = type(attribute)
            if kind in _SIMPLE or (kind is float and math.isfinite(attribute)):
                continue
            if is_stateless_class(kind):
                del nodes[name]
            else:
                nodes[name] = self.encode(attribute, f"{path}.{name}")
        return {"kind": "object", "class": facts.path, "attributes": nodes}

    def _own(self, env: Any, path: str) -> dict[str, Any]:
        try:
            state = env.get_state()
        except Exception as error:  # whatever the user's method raises means the same: no state
            raise _CannotCaptureError(f"{path}.get_state() raised {type(error).__name__}: {error}") from error
        if state is None:
            raise _CannotCaptureError(f"{path}.get_state() returned None")
        rng = vars(env).get("_np_random")  # easily forgotten in get_state
        state_node = self.encode(state, f"{path}.get_state()")
        return {"kind": "own", "class": class_path(env), "state": state_node, "random": self.encode(rng, path)}

    def _count_in(self, number: int) -> None:
        self._count += number
        if self._count > _MOST_VALUES:
            raise _CannotCaptureError(f"the env holds more than {_MOST_VALUES} values")

    def check_views(self) -> None:
        """Refuse arrays that overlap: after restoring, writing to one would no longer change the other."""
        by_memory: dict[int, list[tuple[str, np.ndarray[Any, Any]]]] = {}
        for path, array in self._originals:
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

    def __init__(self, arrays: Any) -> None:
        self._arrays = arrays
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
            value = self._by_id[node_id] = _decode_array(node, self._arrays[node["place"]])
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
            if facts_of(type(current)).is_env:
                raise CheckpointError(f"The saved env state has two envs where the env has one, at {path}.")
            current = copy.copy(current)
        self._taken.add(id(current))
        return current

    def _object(self, node: dict[str, Any], current: Any, path: str) -> None:
        present = attributes_of(current)
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
        if not facts_of(type(current)).offers_state:
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


Encoder = Callable[[_Capture, Any, str], Any]


@per_class
def _encoder_of(cls: type) -> tuple[Encoder, bool]:
    """Return what encodes values of a class, and whether two attributes may hold the same one of them."""
    if cls in (float, range, bytes) or issubclass(cls, np.generic | enum.Enum):
        return _encode_value, False
    if is_stateless_class(cls):
        return _encode_nothing, False
    if cls in _CONTAINERS:
        return _Capture.container, cls not in (tuple, frozenset)
    if cls in _MAPPINGS:
        return _Capture.mapping, True
    if cls is np.ndarray:
        return _Capture.array, True
    if cls is np.random.Generator:
        return _Capture.generator, True
    if cls in (np.random.RandomState, random.Random):
        return _Capture.other_generator, True
    return (_Capture.space if issubclass(cls, spaces.Space) else _Capture.instance), True


def _encode_nothing(_walk: _Capture, _value: Any, _path: str) -> dict[str, Any]:
    return {"kind": "stateless"}


def _encode_value(_walk: _Capture, value: Any, path: str) -> dict[str, Any]:
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


def _encode_array(array: np.ndarray[Any, Any], path: str) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """Return what an array is, and a copy, as bytes if its numbers are none that every library has."""
    node: dict[str, Any] = {"kind": "array", "fortran": array.flags.f_contiguous and not array.flags.c_contiguous}
    if array.dtype.kind in "biuf" and array.dtype.isnative and array.dtype.itemsize <= 8:
        return node, np.array(array, order="C")
    if array.dtype.kind not in "biufcSUMm":
        raise _CannotCaptureError(f"{path} is an array of type {array.dtype}")
    data = np.frombuffer(np.ascontiguousarray(array).tobytes(), dtype=np.uint8).copy()
    return node | {"dtype": array.dtype.str, "shape": list(array.shape)}, data


def _decode_array(node: dict[str, Any], value: Any) -> np.ndarray[Any, Any]:
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
