"""States as JSON data and tensors: what a component of a checkpoint is stored as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rl_core.checkpoint_files import StoredArray
from rl_core.errors import CheckpointError

State = Any
"""Nested dicts, lists and tuples of tensors, numpy arrays, and plain data."""


class Json(dict[str, Any]):
    """A part of a state that is JSON data as it stands, such as a config's: it is not looked through."""


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
        items = [
            item if type(item) in _PLAIN else encode_state(item, f"{where}[{index}]", arrays)
            for index, item in enumerate(state)
        ]
        return {"$tuple": items} if isinstance(state, tuple) else items
    if isinstance(state, torch.Tensor | np.ndarray):
        key = f"{len(arrays)}"
        if isinstance(state, torch.Tensor):
            arrays[key] = _stored(state, where)
            return {"$tensor": key}
        if state.dtype.kind not in "biuf":
            raise CheckpointError(f"{where}: arrays of dtype {state.dtype} have no stored form.")
        # Torch lacks some of numpy's integer types, so bytes go in and the dtype stands beside them.
        arrays[key] = StoredArray("U8", (state.nbytes,), np.ascontiguousarray(state).reshape(-1).view(np.uint8))
        return {"$array": key, "dtype": state.dtype.str, "shape": list(state.shape)}
    if isinstance(state, np.generic):
        return state.item()
    if state is None or isinstance(state, bool | int | float | str):
        return state
    raise CheckpointError(f"{where}: a {type(state).__name__} has no stored form; use arrays and plain data.")


_PLAIN, _TEXT = frozenset((type(None), bool, int, float, str)), frozenset((str,))
_DTYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of element types in safetensors files."""


def _stored(tensor: torch.Tensor, where: str) -> StoredArray:
    """Describe a tensor whose numbers stand where they are, unless they must be copied to stand without gaps."""
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise CheckpointError(f"{where}: tensors of {tensor.dtype} have no stored form.")
    flat = (tensor.detach() if tensor.requires_grad else tensor).cpu().reshape(-1)
    if len(flat) < 2:  # it may have any stride, with which it cannot be seen as bytes
        flat = flat.clone(memory_format=torch.contiguous_format)
    return StoredArray(dtype, tuple(tensor.shape), flat.view(torch.uint8).numpy())


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
