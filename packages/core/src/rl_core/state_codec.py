"""States as JSON data and tensors: what a component of a checkpoint is stored as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rl_core.checkpoint_files import Json, StoredArray
from rl_core.errors import CheckpointError

State = Any
"""Nested dicts, lists and tuples of tensors, numpy arrays, and plain data."""


def encode_state(state: State, where: str, arrays: dict[str, StoredArray]) -> Any:
    """Turn a state into JSON data and collect its arrays in `arrays`: as they are, not copied.

    Raises:
        CheckpointError: something has no stored form; the message says where it stands, beginning with `where`.
    """
    if type(state) is Json:
        return dict(state)
    if isinstance(state, dict | Mapping):
        if not _TEXT.issuperset(map(type, state)) and any(not isinstance(key, str) for key in state):
            raise CheckpointError(f"{where}: mapping keys must be strings, got {list(state)}.")
        return {
            key if key[:1] != "$" else _escaped(key): (
                item if type(item) in _PLAIN else encode_state(item, f"{where}.{key}", arrays)
            )
            for key, item in state.items()
        }
    if isinstance(state, list | tuple):
        items = _encode_items(list(state), where, arrays)
        return {"$tuple": items} if isinstance(state, tuple) else items
    if isinstance(state, torch.Tensor | np.ndarray):
        key = f"{len(arrays)}"
        if isinstance(state, torch.Tensor):
            arrays[key] = _stored(state, where)
            return {"$tensor": key}
        if state.dtype.kind not in "biuf":
            raise CheckpointError(f"{where}: arrays of dtype {state.dtype} have no stored form.")
        # Torch lacks some of numpy's integer types, so bytes go in and the dtype stands beside them.
        arrays[key] = StoredArray("U8", (state.nbytes,), _bytes_of(state))
        return {"$array": key, "dtype": state.dtype.str, "shape": list(state.shape)}
    if isinstance(state, np.generic):
        return state.item()
    if state is None or isinstance(state, bool | int | float | str):
        return state
    raise CheckpointError(f"{where}: a {type(state).__name__} has no stored form; use arrays and plain data.")


def _encode_items(items: list[State], where: str, arrays: dict[str, StoredArray]) -> list[Any]:
    if _PLAIN.issuperset(map(type, items)):
        return items
    return [encode_state(item, f"{where}[{index}]", arrays) for index, item in enumerate(items)]


_PLAIN, _TEXT = frozenset((type(None), bool, int, float, str)), frozenset((str,))
_FORMATS: dict[torch.dtype, tuple[str, torch.dtype | None]] = {
    torch.float32: ("F32", None),
    torch.float64: ("F64", None),
    torch.float16: ("F16", None),
    torch.bfloat16: ("BF16", torch.int16),
    torch.float8_e4m3fn: ("F8_E4M3", torch.uint8),
    torch.float8_e5m2: ("F8_E5M2", torch.uint8),
    torch.int64: ("I64", None),
    torch.int32: ("I32", None),
    torch.int16: ("I16", None),
    torch.int8: ("I8", None),
    torch.uint8: ("U8", None),
    torch.bool: ("BOOL", None),
}
"""Names of element types in safetensors files, and integers of that width for those that numpy lacks."""


def _stored(tensor: torch.Tensor, where: str) -> StoredArray:
    """Describe a tensor whose numbers stand where they are, unless they must be copied to stand without gaps."""
    name, integers = _FORMATS.get(tensor.dtype, (None, None))
    if name is None:
        raise CheckpointError(f"{where}: tensors of {tensor.dtype} have no stored form.")
    array = (tensor.detach().view(integers) if integers else tensor).numpy(force=True)
    return StoredArray(name, array.shape, _bytes_of(array))


def _bytes_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """View the numbers as bytes, in their order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


_CONFIG_KEYS = ("$import", "$object", "$instance")
"""Keys that encoded configs use; they pass through unchanged."""


def _escaped(key: str) -> str:
    """Tell a key of a state from those that stand for arrays and tuples: one that begins with `$` gets a second."""
    return f"${key}" if key.startswith("$") and key not in _CONFIG_KEYS else key


def decode_state(data: Any, tensors: Mapping[str, torch.Tensor]) -> State:
    """Turn JSON data back into a state."""
    if isinstance(data, list):
        return [decode_state(item, tensors) for item in data]
    if not isinstance(data, dict):
        return data
    if "$tensor" in data:
        return tensors[data["$tensor"]]
    if "$array" in data:
        dtype = np.dtype(data["dtype"])
        if dtype.kind not in "biuf" or min(data["shape"], default=0) < 0:
            raise ValueError(f"an array of dtype {dtype} and shape {data['shape']}")
        return np.frombuffer(tensors[data["$array"]].numpy().tobytes(), dtype).reshape(data["shape"]).copy()
    if "$tuple" in data:
        return tuple(decode_state(item, tensors) for item in data["$tuple"])
    return {key[key.startswith("$$") :]: decode_state(item, tensors) for key, item in data.items()}
