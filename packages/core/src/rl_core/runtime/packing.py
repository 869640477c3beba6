"""Records as bytes that cross to other processes as they are, and that tensors and arrays are views of on arrival.

Left to Ray, every tensor would be an entry of its own in the object store's bookkeeping, and every small object of a
record would go through a pickler written in Python. Python's own pickler takes long to come back into a processor's
caches when it is used every few milliseconds: a rollout takes a third of its time here, which is in
`docs/decisions/0011-a-line-to-runners-on-this-machine.md`.

Packed are 8 bytes that say where the header stands, the arrays, each at a multiple of `ALIGNMENT`, and the header:
what the records look like with all that is no array in it. What is neither plain data nor an array nor a record (of
a dataclass with slots that is no more than its fields) is pickled.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import marshal
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any

import numpy as np
import torch

ALIGNMENT = 64
"""Bytes at whose multiples every array begins, as allocators have it."""

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Packed:
    """Values written down: in pieces, the arrays among them where they stand, until they are sent or joined."""

    def __init__(self) -> None:
        """Begin with no values."""
        self.pieces: list[Any] = [b""]
        """Buffers, one after the other; the first is the place of the header."""
        self.nbytes = ALIGNMENT
        """Of all pieces."""

    def add(self, buffer: Any, nbytes: int) -> int:
        """Add a buffer without gaps, and return at which byte it stands."""
        start, padding = self.nbytes, -nbytes % ALIGNMENT
        self.pieces += (buffer, _ZEROS[:padding])
        self.nbytes += nbytes + padding
        return start

    def end(self, header: Any) -> Packed:
        """Add the header, after all arrays."""
        written = marshal.dumps(header)
        self.pieces[0] = self.nbytes.to_bytes(ALIGNMENT, "little")
        self.pieces.append(written)
        self.nbytes += len(written)
        return self

    def joined(self) -> Bytes:
        """Copy the pieces into one array."""
        return np.frombuffer(b"".join(self.pieces), np.uint8)


def pack(value: Any) -> Packed:
    """Write down records: tensors arrive as plain ones on the CPU.

    Each is written for itself: views of one array, and the same array at two places, arrive as several.

    Raises:
        RecursionError: something contains itself.
        Exception: something in it cannot be sent, as a lock.
    """
    packed = Packed()
    return packed.end(_flat(value, packed))


def pack_any(value: Any) -> Packed:
    """Write down whatever Ray could send, as it would arrive: with parameters, and with what only the script has."""
    packed = Packed()
    return packed.end(_pickled(value, packed, is_any=True))


def unpack(packed: Bytes) -> Any:
    """Read what `pack` or `pack_any` wrote, to be written to.

    Args:
        packed: An array of `aligned` becomes part of what is read; one that must not be written to is copied.
    """
    own = packed
    if not packed.flags.writeable:
        own = aligned(len(packed))
        own[:] = packed
    return _built(marshal.loads(own[int.from_bytes(own[:8], "little") :].data), own)


def aligned(size: int) -> Bytes:
    """Return an array of so many bytes, not filled yet, that `unpack` need not copy."""
    whole = np.empty(size + ALIGNMENT, np.uint8)
    shift = -whole.__array_interface__["data"][0] % ALIGNMENT  # `whole.ctypes.data` takes ten times as long
    return whole[shift : shift + size]


_ZEROS = bytes(ALIGNMENT)
_PLAIN = frozenset((type(None), bool, int, float, str, bytes))
"""What stands in a header as it is; types of users that inherit from them do not."""
_TUPLE, _ARRAY, _TENSOR, _RECORD, _SCALAR, _PICKLE = range(6)
"""What a tuple in a header begins with."""
_WORDS = {torch.bfloat16: torch.int16, torch.float8_e4m3fn: torch.uint8, torch.float8_e5m2: torch.uint8}
"""How numbers are written whose type numpy has not."""


def _flat(value: Any, packed: Packed) -> Any:
    """Write a value's arrays, and return what stands in the header for it."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    write: Callable[[Any, Packed], Any] = _WRITERS.get(kind, _flat_record)
    return write(value, packed)


def _flat_tensor(tensor: torch.Tensor, packed: Packed) -> tuple[Any, ...]:
    try:
        array, dtype = _array_of(tensor)
    except TypeError:
        return _pickled(tensor, packed)
    return _TENSOR, packed.add(array, array.nbytes), array.dtype.str, array.shape, dtype


def _flat_array(array: np.ndarray, packed: Packed) -> tuple[Any, ...]:
    if array.dtype.kind not in "biufc":
        return _pickled(array, packed)
    whole = array if array.flags.c_contiguous else array.copy()
    return _ARRAY, packed.add(whole, whole.nbytes), whole.dtype.str, whole.shape


def _flat_tuple(values: tuple[Any, ...], packed: Packed) -> tuple[Any, ...]:
    return _TUPLE, *[_flat(item, packed) for item in values]


def _flat_list(values: list[Any], packed: Packed) -> list[Any]:
    return values if _PLAIN.issuperset(map(type, values)) else [_flat(item, packed) for item in values]


def _flat_dict(values: dict[Any, Any], packed: Packed) -> Any:
    if not _PLAIN.issuperset(map(type, values)):
        return _pickled(values, packed)
    return {key: _flat(item, packed) for key, item in values.items()}


def _flat_scalar(value: Any, packed: Packed) -> tuple[Any, ...]:
    return _SCALAR, value.dtype.str, value.item()


def _flat_record(value: Any, packed: Packed) -> tuple[Any, ...]:
    kind: Any = type(value)
    record = _record_of(kind)
    if record is None:
        return _pickled(value, packed)
    name, fields = record
    try:
        items = [getattr(value, field) for field in fields]
    except AttributeError:  # one is not set yet
        return _pickled(value, packed)
    return _RECORD, name, *[_flat(item, packed) for item in items]


def _array_of(tensor: torch.Tensor) -> tuple[np.ndarray, str | None]:
    """Return a tensor's numbers without gaps, and the name of its type if they are words that only stand for them.

    Raises:
        TypeError: it is sparse, or something else that numpy does not know.
    """
    words, dtype = _WORDS.get(tensor.dtype), None
    if words is not None:
        tensor, dtype = tensor.detach().cpu().contiguous().view(words), str(tensor.dtype).removeprefix("torch.")
    array = tensor.numpy(force=True)
    return array if array.flags.c_contiguous else array.copy(), dtype


def _pickled(value: Any, packed: Packed, *, is_any: bool = False) -> tuple[Any, ...]:
    """Write a pickle that may hold what only the script has; what is large in it stands beside it, as it does in Ray.

    Args:
        value: Of any kind.
        packed: Written to.
        is_any: See `pack_any`.
    """
    file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    pickler = _picklers()[is_any](file, protocol=5, buffer_callback=buffers.append)
    pickler.dump(value)
    places = []
    for part in (file.getbuffer(), *(buffer.raw() for buffer in buffers)):
        start = packed.add(part, part.nbytes)
        places.append((start, start + part.nbytes))
    return (_PICKLE, *places)


@cache
def _picklers() -> tuple[Any, Any]:
    """What writes records, and what writes anything as it is."""
    from ray.cloudpickle import Pickler

    table: ChainMap[Any, Any] = ChainMap({torch.Tensor: _reduce, torch.nn.Parameter: _reduce}, Pickler.dispatch_table)
    return type("RecordPickler", (Pickler,), {"dispatch_table": table}), Pickler


def _reduce(tensor: torch.Tensor) -> Any:
    try:
        array, dtype = _array_of(tensor)
    except TypeError:
        return tensor.cpu().__reduce_ex__(5)  # type: ignore[no-untyped-call]
    return _tensor, (pickle.PickleBuffer(array.data), 0, array.dtype.str, array.shape, dtype)


_WRITERS: dict[Any, Callable[[Any, Packed], Any]] = {
    torch.Tensor: _flat_tensor,
    torch.nn.Parameter: _flat_tensor,
    np.ndarray: _flat_array,
    tuple: _flat_tuple,
    list: _flat_list,
    dict: _flat_dict,
    **dict.fromkeys((np.dtype(char).type for char in "?bhilqBHILQefd"), _flat_scalar),
}


def _tensor(own: Any, start: int, words: str, shape: tuple[int, ...], dtype: str | None) -> torch.Tensor:
    tensor = torch.from_numpy(np.ndarray(shape, words, own, start))
    return tensor if dtype is None else tensor.view(getattr(torch, dtype))


def _built(header: Any, own: Bytes) -> Any:
    """Build a value of what stands in the header for it and of its arrays."""
    kind = type(header)
    if kind is dict:
        return {key: _built(item, own) for key, item in header.items()}
    if kind is list:
        return header if _PLAIN.issuperset(map(type, header)) else [_built(item, own) for item in header]
    if kind is not tuple:
        return header
    kind = header[0]
    if kind == _TENSOR:
        return _tensor(own, *header[1:])
    if kind == _ARRAY:
        return np.ndarray(header[3], header[2], own, header[1])
    if kind == _TUPLE:
        return tuple([_built(item, own) for item in header[1:]])
    if kind == _SCALAR:
        return np.dtype(header[1]).type(header[2])
    if kind == _PICKLE:
        written, *buffers = (own[start:stop].data for start, stop in header[1:])
        return pickle.loads(written, buffers=buffers)  # between processes of this run, as all Ray sends
    record_class, setters = _record_named(header[1])
    record: Any = object.__new__(record_class)
    for put, item in zip(setters, header[2:], strict=True):
        put(record, item if type(item) in _PLAIN else _built(item, own))
    return record


@cache
def _record_of(kind: type) -> tuple[str, list[str]] | None:
    """Name a class of records and their fields; None if it is none, or other processes cannot find it."""
    if not dataclasses.is_dataclass(kind) or kind.__module__ == "__main__":
        return None
    names = [field.name for field in dataclasses.fields(kind)]
    slots = {slot for base in kind.__mro__ for slot in vars(base).get("__slots__", ())} - {"__weakref__"}
    if slots != set(names) or kind.__dictoffset__ or kind.__new__ is not object.__new__:
        return None
    copied_by = (getattr(kind, f"__{name}__", None) for name in ("reduce", "reduce_ex", "getstate", "setstate"))
    if any(getattr(method, "__module__", None) not in (None, "dataclasses") for method in copied_by):
        return None
    try:
        if attrgetter(kind.__qualname__)(sys.modules[kind.__module__]) is not kind:
            return None
    except (KeyError, AttributeError):
        return None
    return f"{kind.__module__}:{kind.__qualname__}", names


@cache
def _record_named(name: str) -> tuple[type, list[Callable[[Any, Any], None]]]:
    """Find a class of records by its name, and what sets the fields of one even if it is frozen."""
    module, qualname = name.split(":")
    kind = attrgetter(qualname)(importlib.import_module(module))
    return kind, [getattr(kind, field.name).__set__ for field in dataclasses.fields(kind)]
