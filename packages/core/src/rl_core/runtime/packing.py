"""Records as bytes that cross to other processes as they are, and that tensors and arrays are views of on arrival.

Left to Ray, every tensor would be an entry of its own in the object store's bookkeeping, and every small object of a
record would go through a pickler written in Python. Python's own pickler takes long to come back into a processor's
caches when it is used every few milliseconds: a rollout takes a third of its time here, which is in
`docs/decisions/0011-a-line-to-runners-on-this-machine.md`.

Packed are 8 bytes that say where the header stands, the arrays, each at a multiple of `ALIGNMENT`, and the header:
what the records look like with all that is no array in it.
"""

from __future__ import annotations

import dataclasses
import importlib
import marshal
import pickle
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
    """Write down records: tensors arrive as plain ones on the CPU, each is written, views of each other as well.

    Raises:
        Exception: something in it cannot be sent, as a lock.
    """
    packed = Packed()
    return packed.end(_flat(value, packed))


def pack_any(value: Any) -> Packed:
    """Write down whatever Ray could send, as it would arrive: with parameters, and with what only the script has."""
    return Packed().end(_pickled(value))


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
_TUPLE, _ARRAY, _TENSOR, _RECORD, _PICKLE = range(5)
"""What a tuple in a header begins with."""
_WORDS = {1: torch.uint8, 2: torch.int16}
"""By their bytes, how numbers are written whose type numpy has not."""


def _flat(value: Any, packed: Packed) -> Any:
    """Write a value's arrays, and return what stands in the header for it."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if kind is torch.Tensor or kind is torch.nn.Parameter:
        return _flat_tensor(value, packed)
    if kind is np.ndarray and value.dtype.kind in "biufc":
        return _flat_array(_ARRAY, value, packed)
    if kind is tuple:
        return (_TUPLE, *[_flat(item, packed) for item in value])
    if kind is list:
        return [_flat(item, packed) for item in value]
    if kind is dict and _PLAIN.issuperset(map(type, value)):
        return {key: _flat(item, packed) for key, item in value.items()}
    if record := _record_of(kind):
        name, fields = record
        return (_RECORD, name, *[_flat(getattr(value, field), packed) for field in fields])
    return _pickled(value)


def _flat_array(kind: int, array: np.ndarray, packed: Packed) -> tuple[Any, ...]:
    whole = array if array.flags.c_contiguous else array.copy()
    start, padding = packed.nbytes, -whole.nbytes % ALIGNMENT
    packed.pieces += (whole, _ZEROS[:padding])
    packed.nbytes += whole.nbytes + padding
    return kind, start, whole.dtype.str, whole.shape


def _flat_tensor(tensor: torch.Tensor, packed: Packed) -> tuple[Any, ...]:
    try:
        return _flat_array(_TENSOR, tensor.numpy(force=True), packed)
    except TypeError:  # numpy has not its type, such as bfloat16
        words = tensor.detach().cpu().contiguous().view(_WORDS[tensor.itemsize])
        return (*_flat_array(_TENSOR, words.numpy(), packed), str(tensor.dtype).removeprefix("torch."))


def _pickled(value: Any) -> tuple[int, bytes]:
    from ray import cloudpickle

    written: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return _PICKLE, written


def _built(header: Any, own: Bytes) -> Any:
    """Build a value of what stands in the header for it and of its arrays."""
    kind = type(header)
    if kind is dict:
        return {key: _built(item, own) for key, item in header.items()}
    if kind is list:
        return [_built(item, own) for item in header]
    if kind is not tuple:
        return header
    kind = header[0]
    if kind == _TENSOR:
        tensor = torch.from_numpy(np.ndarray(header[3], header[2], own, header[1]))
        return tensor if len(header) == 4 else tensor.view(getattr(torch, header[4]))
    if kind == _ARRAY:
        return np.ndarray(header[3], header[2], own, header[1])
    if kind == _TUPLE:
        return tuple([_built(item, own) for item in header[1:]])
    if kind == _PICKLE:
        return pickle.loads(header[1])  # between processes of this run, as all Ray sends
    record_class, setters = _record_named(header[1])
    record: Any = object.__new__(record_class)
    for put, item in zip(setters, header[2:], strict=True):
        put(record, item if type(item) in _PLAIN else _built(item, own))
    return record


@cache
def _record_of(kind: type) -> tuple[str, tuple[str, ...]] | None:
    """Name a class of records and their fields; None if it is none, or other processes cannot find it."""
    if not dataclasses.is_dataclass(kind) or "__slots__" not in vars(kind):
        return None
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        return None
    if kind.__reduce_ex__ is not object.__reduce_ex__ or kind.__reduce__ is not object.__reduce__:
        return None  # it has a word of its own in how it is copied
    return f"{kind.__module__}:{kind.__qualname__}", tuple(field.name for field in dataclasses.fields(kind))


@cache
def _record_named(name: str) -> tuple[type, list[Callable[[Any, Any], None]]]:
    """Find a class of records by its name, and what sets the fields of one even if it is frozen."""
    module, qualname = name.split(":")
    kind = attrgetter(qualname)(importlib.import_module(module))
    return kind, [getattr(kind, field.name).__set__ for field in dataclasses.fields(kind)]
