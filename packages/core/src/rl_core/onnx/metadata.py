"""What an ONNX file says about the policy in it: one JSON text among the model's metadata.

Only plain data stands there, so reading it runs no code.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_core.config.codec import encode
from rl_core.env.spaces import space_to_json
from rl_core.errors import CheckpointError, RLError
from rl_core.tree import Tree, tree_leaves

if TYPE_CHECKING:
    from rl_core.onnx.graph import PolicyGraph
    from rl_core.policy import Policy

FORMAT = "rl-core ONNX policy"
FORMAT_VERSION = 1
KEY = "rl_core"
"""Under which the text stands in the model's metadata."""
INSTALL_HINT = 'install the extra: pip install "rl-core[onnx]"'


def to_text(policy: Policy, graph: PolicyGraph) -> str:
    """Describe a policy, all but the operations of its graph.

    Args:
        policy: To be exported.
        graph: Of its module.

    Raises:
        ConfigError: a connector has no import path.
        RLError: the statistics or the recurrent state hold something that is no array.
    """
    description = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "policy_version": policy.version,
        "observation_space": space_to_json(policy.observation_space),
        "action_space": space_to_json(policy.action_space),
        "obs_connectors": [encode(piece) for piece in policy.obs_chain.pieces],
        "action_connectors": [encode(piece) for piece in policy.action_chain.pieces],
        "connector_state": pack(policy.shared),
        "distribution": repr(policy.module.distribution),
        "obs": pack(graph.obs_names),
        "action": pack(graph.action_names),
        "initial_state": pack(tuple(tree_leaves(graph.module.initial_state(1)))),
    }
    return json.dumps(description)


def from_text(text: str | None, where: str) -> dict[str, Any]:
    """Parse what `to_text` wrote; the fields are still packed.

    Raises:
        CheckpointError: there is nothing, or something of another format.
    """
    if text is None:
        raise CheckpointError(f"{where} holds no policy of this library. Write one with rl_core.onnx.export_onnx.")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: its description of the policy is no JSON ({error}).") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise CheckpointError(f"{where}: its metadata does not describe a policy of this library.")
    if data.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{where} has format version {data.get('version')!r}, this rl-core reads {FORMAT_VERSION}. Export the "
            "policy again with this version."
        )
    return data


def pack(tree: Tree) -> Any:
    """Turn a tree of arrays, tensors and plain values into JSON data.

    Raises:
        RLError: a leaf is something else.
    """
    if isinstance(tree, dict):
        return {"dict": [[key, pack(value)] for key, value in tree.items()]}
    if isinstance(tree, tuple):
        return {"tuple": [pack(value) for value in tree]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    array = np.ascontiguousarray(tree).reshape(np.shape(tree))  # the first makes a vector of a scalar
    if array.dtype.kind not in "biuf":
        raise RLError(f"export_onnx: {type(tree).__name__} {tree!r} has no stored form, expected an array of numbers.")
    data = base64.b64encode(array.tobytes()).decode()
    return {"array": data, "dtype": array.dtype.str, "shape": list(array.shape)}


def unpack(data: Any) -> Tree:
    """Turn what `pack` gave back into the tree; arrays are numpy's.

    Raises:
        KeyError, TypeError, ValueError: it is malformed.
    """
    if not isinstance(data, dict):
        if isinstance(data, list):
            raise TypeError("a list where a value, an array, a dict or a tuple was expected")
        return data
    if "dict" in data:
        return {key: unpack(value) for key, value in data["dict"]}
    if "tuple" in data:
        return tuple(unpack(value) for value in data["tuple"])
    dtype = np.dtype(data["dtype"])
    if dtype.kind not in "biuf":
        raise ValueError(f"an array of dtype {dtype}")
    return np.frombuffer(base64.b64decode(data["array"]), dtype).reshape(data["shape"]).copy()
