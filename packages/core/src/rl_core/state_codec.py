"""States as JSON data and tensors: what a component of a checkpoint is stored as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rl_core.errors import CheckpointError

State = Any
"""Nested dicts, lists and tuples of tensors, numpy arrays, and plain data."""


def encode_state(state: State, where: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Turn a state into JSON data and collect its arrays in `tensors`."""
    if state is None or isinstance(state, bool | int | float | str):
        return state
    if isinstance(state, np.generic):
        return state.item()
    if isinstance(state, torch.Tensor | np.ndarray):
        key = f"{len(tensors)}"
        if isinstance(state, torch.Tensor):
            tensors[key] = state.detach().cpu().contiguous().clone()
            return {"$tensor": key}
        if state.dtype.kind not in "biuf":
            raise CheckpointError(f"{where}: arrays of dtype {state.dtype} have no stored form.")
        # Torch lacks some of numpy's integer types, so bytes go in and the dtype stands beside them.
        tensors[key] = torch.from_numpy(np.frombuffer(np.ascontiguousarray(state).tobytes(), np.uint8).copy())
        return {"$array": key, "dtype": state.dtype.str, "shape": list(state.shape)}
    if isinstance(state, tuple):
        return {"$tuple": [encode_state(item, f"{where}[{index}]", tensors) for index, item in enumerate(state)]}
    if isinstance(state, list):
        return [encode_state(item, f"{where}[{index}]", tensors) for index, item in enumerate(state)]
    if isinstance(state, Mapping):
        if any(not isinstance(key, str) for key in state):
            raise CheckpointError(f"{where}: mapping keys must be strings, got {list(state)}.")
        return {_escaped(key): encode_state(item, f"{where}.{key}", tensors) for key, item in state.items()}
    raise CheckpointError(f"{where}: a {type(state).__name__} has no stored form; use arrays and plain data.")


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
