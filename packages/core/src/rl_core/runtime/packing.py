"""Records as one array of bytes, which crosses to other processes as it is, and is copied once on arrival.

Left to Ray, every tensor would be an entry of its own in the object store's bookkeeping, and every small object of a
record would go through a pickler written in Python.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

ALIGNMENT = 64
"""Bytes at whose multiples every tensor begins, as allocators have it."""

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def pack(value: Any, *, by_value: bool = False) -> Bytes:
    """Write a value into one array; equal tensors of its records may share memory, each is written.

    Args:
        value: What to write.
        by_value: Whether classes and functions of the script go along, which other processes do not have. Otherwise
            they do only where this process does not have them either, as one that was sent them.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        if by_value:
            raise pickle.PicklingError
        header = _pickled(pickle.Pickler, value, buffers)
    except (pickle.PicklingError, AttributeError, TypeError):
        from ray import cloudpickle

        buffers.clear()
        header = _pickled(cloudpickle.Pickler, value, buffers)
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
    """Read what `pack` wrote: what comes out may be written to, and stands where `packed` does if that may be, too."""
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


def _pickled(kind: Any, value: Any, buffers: list[pickle.PickleBuffer]) -> bytes:
    file = io.BytesIO()
    pickler = kind(file, protocol=5, buffer_callback=buffers.append)
    pickler.dispatch_table = {**copyreg.dispatch_table, **getattr(pickler, "dispatch_table", {}), **_TENSORS}
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
