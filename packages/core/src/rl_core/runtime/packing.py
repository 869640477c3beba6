"""Records as one array of bytes, which crosses to other processes as it is, and is copied once on arrival.

Left to Ray, every tensor would be an entry of its own in the object store's bookkeeping, and every small object of a
record would go through a pickler written in Python.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

ALIGNMENT = 64
"""Bytes at whose multiples every tensor begins, as allocators have it."""

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def pack(value: Any) -> Bytes:
    """Write records into one array: tensors arrive as plain ones, each is written, views of each other as well."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        header = _pickled(pickle.Pickler, value, buffers, _TENSORS)
    except (pickle.PicklingError, AttributeError, TypeError):  # of a class or function that only the script has
        from ray import cloudpickle

        buffers.clear()
        header = _pickled(cloudpickle.Pickler, value, buffers, _TENSORS)
    return _in_one(header, buffers)


def pack_any(value: Any) -> Bytes:
    """Write whatever Ray could send, as it would arrive: with parameters, and with what only the script has."""
    from ray import cloudpickle

    buffers: list[pickle.PickleBuffer] = []
    return _in_one(_pickled(cloudpickle.Pickler, value, buffers, {}), buffers)


def _in_one(header: bytes, buffers: Sequence[pickle.PickleBuffer]) -> Bytes:
    """Put a pickle and its buffers into one array."""
    parts = [np.frombuffer(header, np.uint8), *(np.asarray(buffer.raw()) for buffer in buffers)]
    sizes = [len(parts), *map(len, parts)]
    index = np.array(sizes, np.int64).view(np.uint8)
    ends, end = [], len(index)
    for size in sizes[1:]:
        start = -(-end // ALIGNMENT) * ALIGNMENT
        end = start + size
        ends.append((start, end))
    packed = np.empty(end, np.uint8)
    packed[: len(index)] = index
    for (start, end), part in zip(ends, parts, strict=True):
        packed[start:end] = part
    return packed


def unpack(packed: Bytes) -> Any:
    """Read what `pack` or `pack_any` wrote, to be written to: where it stands if that is possible, else in a copy."""
    own = packed
    if not packed.flags.writeable or _address(packed) % ALIGNMENT:
        own = aligned(len(packed))
        own[:] = packed
    (num_parts,) = own[:8].view(np.int64)
    end = 8 * (int(num_parts) + 1)
    parts: list[Any] = []
    for size in own[8:end].view(np.int64).tolist():
        start = -(-end // ALIGNMENT) * ALIGNMENT
        end = start + size
        parts.append(own[start:end])
    return pickle.loads(parts[0], buffers=parts[1:])  # between processes of this run, as all Ray sends


def aligned(size: int) -> Bytes:
    """Return an array of so many bytes, not filled yet, that `unpack` need not copy."""
    whole = np.empty(size + ALIGNMENT, np.uint8)
    shift = -_address(whole) % ALIGNMENT
    return whole[shift : shift + size]


def _address(array: Bytes) -> int:
    address: int = array.__array_interface__["data"][0]  # `array.ctypes.data` takes ten times as long
    return address


def _pickled(kind: Any, value: Any, buffers: list[pickle.PickleBuffer], reducers: Mapping[Any, Any]) -> bytes:
    file = io.BytesIO()
    pickler = kind(file, protocol=5, buffer_callback=buffers.append)
    pickler.dispatch_table = {**copyreg.dispatch_table, **getattr(pickler, "dispatch_table", {}), **reducers}
    pickler.dump(value)
    return file.getvalue()


def _reduce(tensor: torch.Tensor) -> tuple[Any, ...]:
    plain = tensor if tensor.is_cpu and tensor.is_contiguous() else tensor.cpu().contiguous()
    words: Any = plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain  # numpy has no bfloat16
    return _tensor, (pickle.PickleBuffer(words.numpy(force=True)), plain.dtype, tuple(plain.shape))


def _tensor(buffer: Any, dtype: torch.dtype, shape: Sequence[int]) -> torch.Tensor:
    if not len(buffer):
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(buffer, dtype=dtype).view(shape)


_TENSORS = {torch.Tensor: _reduce, torch.nn.Parameter: _reduce}
