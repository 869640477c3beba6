"""Arrays, plain settings and spaces out of the inert records of a pickle."""

from __future__ import annotations

import base64
import binascii
import io
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_core.errors import CheckpointError
from rl_core.migrate.inert import Record, shown

Array = np.ndarray[Any, Any]
_DTYPES = frozenset(("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"))
_MAX_SPACE_BYTES = 2**24
"""Largest array of bounds that is unpacked."""
_MAX_SPACES = 64
"""Most spaces inside one another; a pickle can hold an endless number in a few bytes."""
_MAX_SETTINGS = 4096
"""Most numbers, texts and lists in the settings of a model."""
_MAX_TEXT = 4096


def to_array(value: Any, what: str) -> Array:
    """Build the array (or the 0-d array of a scalar) that a record describes, from its bytes alone.

    Raises:
        CheckpointError: it is something else, an array of objects, or its size does not fit its shape.
    """
    try:
        if isinstance(value, bool | int | float):
            return np.asarray(value)
        function = value.path.replace("numpy.core.", "numpy._core.")
        if function == "numpy._core.multiarray._reconstruct":
            _, shape, dtype, is_fortran, data = value.state
            return _from_bytes(data, dtype, shape, "F" if is_fortran else "C")
        if function == "numpy._core.numeric._frombuffer":
            return _from_bytes(*value.args)
        if function == "numpy._core.multiarray.scalar":
            return _from_bytes(value.args[1], value.args[0], (), "C")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{what}: got {shown(value)}, expected an array of numbers ({error}).") from error
    raise CheckpointError(f"{what}: got {shown(value)}, expected an array of numbers.")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """Build an array after checking that shape, type and number of bytes fit together."""
    if not isinstance(dtype, Record) or dtype.path != "numpy.dtype" or dtype.args[0] not in _DTYPES:
        raise ValueError("elements of an unknown or unsafe type")
    is_swapped = isinstance(dtype.state, tuple) and dtype.state[1] == ">"
    kind: np.dtype[Any] = np.dtype(dtype.args[0]).newbyteorder(">" if is_swapped else "<")
    if not isinstance(data, bytes | bytearray) or not isinstance(shape, tuple):
        raise TypeError("no bytes or no shape")
    if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for a shape that needs another number")
    array = np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")
    return array.astype(kind.newbyteorder("="), copy=False)  # shares the memory of the file's bytes


class _Budget:
    """Counts the parts of what a pickle describes, which may contain itself."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, what: str) -> None:
        """Take one off, or refuse."""
        self.left -= 1
        if self.left < 0:
            raise CheckpointError(f"{what}: has far more parts than a checkpoint needs: it may be an attack.")


def to_plain(value: Any, what: str, budget: _Budget | None = None) -> Any:
    """Return settings as dicts, tuples, text, numbers and None; what is none of these stays an inert record.

    Raises:
        CheckpointError: they have more parts than a model's settings.
    """
    budget = budget or _Budget(_MAX_SETTINGS)
    budget.spend(what)
    if isinstance(value, dict):
        return {key: to_plain(part, what, budget) for key, part in value.items() if isinstance(key, str)}
    if isinstance(value, list | tuple):
        return tuple(to_plain(part, what, budget) for part in value)
    if isinstance(value, str | bytes) and len(value) > _MAX_TEXT:
        raise CheckpointError(f"{what}: has a text of {len(value)} characters, expected the settings of a model.")
    is_scalar = isinstance(value, Record) and value.path.endswith(".multiarray.scalar")
    return to_array(value, what).item() if is_scalar else value


def to_space(value: Any, what: str, budget: _Budget | None = None) -> spaces.Space[Any]:
    """Build a gymnasium space from the record of one, or from the dict that RLlib writes for one.

    Raises:
        CheckpointError: it is another kind of space, or its parts do not fit.
    """
    budget = budget or _Budget(_MAX_SPACES)
    budget.spend(what)
    try:
        if isinstance(value, Record) and value.path.startswith(("gymnasium.spaces.", "gym.spaces.")):
            return _space(value.path.rpartition(".")[2].lower(), value.state, what, budget)
        if isinstance(value, dict) and isinstance(value.get("space"), dict):
            return to_space(value["space"], what, budget)
        if isinstance(value, dict):
            return _space(value["space"].replace("-", ""), value, what, budget)
    except (AttributeError, LookupError, TypeError, ValueError, AssertionError, ArithmeticError) as error:
        raise CheckpointError(f"{what}: the description of a space is damaged ({type(error).__name__}).") from error
    raise CheckpointError(f"{what}: got {shown(value)}, expected a space.")


def _space(kind: str, parts: Mapping[str, Any], what: str, budget: _Budget) -> spaces.Space[Any]:
    """Build a space from the lower-case name of its class and its attributes."""
    if kind == "box":
        low = _bounds(parts["low"], what)
        return spaces.Box(low, _bounds(parts["high"], what), dtype=low.dtype.type)
    if kind == "discrete":
        start = to_array(parts.get("start", 0), what)
        return spaces.Discrete(int(to_array(parts["n"], what)), start=int(start))
    if kind == "multidiscrete":
        return spaces.MultiDiscrete(_bounds(parts["nvec"], what))
    if kind == "multibinary":
        return spaces.MultiBinary(to_plain(parts["n"], what))
    if kind == "dict":
        return spaces.Dict([(key, to_space(part, what, budget)) for key, part in parts["spaces"].items()])
    if kind == "tuple":
        return spaces.Tuple([to_space(part, what, budget) for part in parts["spaces"]])
    raise CheckpointError(
        f"{what}: got a space of kind {shown(kind)}, expected Box, Discrete, Multi..., Dict or Tuple."
    )


def _bounds(value: Any, what: str) -> Array:
    """Read an array of bounds: a record, or text that holds a compressed .npy file."""
    if not isinstance(value, str):
        return to_array(value, what)
    try:
        unpacked = zlib.decompressobj().decompress(base64.b64decode(value), _MAX_SPACE_BYTES)
    except (zlib.error, binascii.Error) as error:
        raise ValueError(f"bounds that cannot be unpacked: {error}") from error
    file = io.BytesIO(unpacked)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("bounds of an unknown .npy version")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    record = Record("numpy.dtype", (dtype.str[1:],), (3, dtype.str[0]))
    return _from_bytes(unpacked[file.tell() :], record, shape, "F" if is_fortran else "C")
