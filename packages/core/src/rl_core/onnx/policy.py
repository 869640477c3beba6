"""An exported policy, run with onnxruntime."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rl_core._internal.tree import tree_leaves, tree_map
from rl_core.config.codec import decode
from rl_core.connect.chain import ActionChain, ObsChain
from rl_core.env.spaces import leaf_spaces, space_from_json
from rl_core.errors import CheckpointError, ConfigError, RLError
from rl_core.onnx import metadata
from rl_core.onnx.session import open_session
from rl_core.policy import PolicyState, _first_row, _single_step


class OnnxPolicy:
    """Observations in, actions out, as `Policy` does, from one file and without building a module.

    Example:
        >>> policy = OnnxPolicy("policy.onnx")
        >>> action, state = policy.act(obs)
        >>> action, state = policy.act(obs, state)
    """

    def __init__(self, path: str | Path, *, allow: Collection[str] = ()) -> None:
        """Read the file.

        Args:
            path: What `export_onnx` wrote.
            allow: Top-level packages that the file may import classes from, besides rl_core and what is imported
                already.

        Raises:
            RLError: onnxruntime is missing.
            CheckpointError: there is no file, it is damaged, or it holds no policy of this library.
            ConfigError: it names a class that may not be imported.
        """
        where = str(path)
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise CheckpointError(f"Cannot read the policy {where}: {error}.") from error
        self._session = open_session(content, where)
        text = self._session.get_modelmeta().custom_metadata_map.get(metadata.KEY)
        description = metadata.from_text(text, where)
        try:
            self._build(description, allow)
        except RLError as error:
            raise type(error)(f"{where}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{where}: its description of the policy is malformed: {error!r}.") from error

    def _build(self, data: Mapping[str, Any], allow: Collection[str]) -> None:
        """Make the chains and check that the graph is the one described."""
        self.observation_space = space_from_json(data["observation_space"])
        self.action_space = space_from_json(data["action_space"])
        self.version = int(data["policy_version"])
        self.distribution = str(data["distribution"])
        pieces = [decode(piece, allow=allow) for piece in data["obs_connectors"]]
        self._obs_chain = ObsChain(pieces, self.observation_space, self.action_space)
        pieces = [decode(piece, allow=allow) for piece in data["action_connectors"]]
        self._action_chain = ActionChain(pieces, self.action_space)
        self._shared = metadata.unpack(data["connector_state"])
        own = self._obs_chain.shared(self._obs_chain.initial_state(1))
        shapes = [[np.shape(leaf) for leaf in tree_leaves(part)] for part in (self._shared, own)]
        if not isinstance(self._shared, tuple) or len(self._shared) != len(own) or shapes[0] != shapes[1]:
            raise CheckpointError(f"the connectors' statistics have shapes {shapes[0]}, expected {shapes[1]}.")
        self._initial = metadata.unpack(data["initial_state"])
        self._obs_names = metadata.unpack(data["obs"])
        self._action_names = metadata.unpack(data["action"])
        obs_names, action_names = list(tree_leaves(self._obs_names)), list(tree_leaves(self._action_names))
        self._state_names = [f"state.{place}" for place in range(len(self._initial))]
        self._num_actions = len(action_names)
        next_names = [f"next_{name}" for name in self._state_names]
        self._outputs = [*action_names, *next_names]  # not dist_inputs, which nobody asks for here
        found = [node.name for node in self._session.get_inputs()], [node.name for node in self._session.get_outputs()]
        ...
