"""An exported policy, run with onnxruntime."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rl_core.config.codec import decode
from rl_core.connect.chain import ActionChain, ObsChain
from rl_core.env.spaces import space_from_json
from rl_core.errors import CheckpointError, ConfigError, RLError
from rl_core.onnx import metadata
from rl_core.onnx.session import open_session
from rl_core.policy import NO_STATE, PolicyState, batch_of_one, first_row, is_state, single_step
from rl_core.tree import tree_leaves, tree_map


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
        self._obs_chain.check_shared(self._shared)
        self._initial = metadata.unpack(data["initial_state"])
        self._shapes = [leaf.shape for leaf in self._initial]
        self._obs_names = metadata.unpack(data["obs"])
        self._action_names = metadata.unpack(data["action"])
        self._check_graph()
        nodes = {node.name: _dtype(node.type) for node in self._session.get_inputs()}
        self._obs_dtypes = tree_map(lambda name: nodes[name], self._obs_names)

    def _check_graph(self) -> None:
        """Refuse a graph that has not the inputs and outputs of the description."""
        states = [f"state.{place}" for place in range(len(self._initial))]
        self._inputs = [*tree_leaves(self._obs_names), *states]
        self._num_actions = len(list(tree_leaves(self._action_names)))
        self._outputs = [*tree_leaves(self._action_names), *(f"next_{name}" for name in states), "dist_inputs"]
        nodes = (self._session.get_inputs(), self._session.get_outputs())
        found = [sorted(node.name for node in part) for part in nodes]
        expected = [sorted(self._inputs), sorted(self._outputs)]
        if found != expected:
            raise CheckpointError(
                f"the graph has inputs {found[0]} and outputs {found[1]}, its description says {expected[0]} and "
                f"{expected[1]}."
            )

    def initial_state(self, *, seed: int = 0) -> PolicyState:
        """Make the state at the start of an episode, with the statistics the policy was trained with.

        Args:
            seed: Of action connectors that draw random numbers.
        """
        chain = self._obs_chain
        return PolicyState(
            module=self._initial,
            connectors=chain.with_shared(chain.initial_state(1), self._shared),
            action_memory=self._action_chain.initial_state(1, seed=seed),
            begins=True,
        )

    def act(
        self, obs: Any, state: PolicyState | None = None, *, reward: float = 0.0, explore: bool = False
    ) -> tuple[Any, PolicyState]:
        """Choose the best action for one observation.

        Args:
            obs: One observation of `observation_space`, without a batch axis.
            state: What the previous call of this episode returned; None begins an episode, as does `initial_state()`.
            reward: Of the step that led here, for connectors that show the policy its rewards.
            explore: Must be False: the graph has no random numbers.

        Returns:
            An action of `action_space` (a plain int for Discrete), and the state for the next call.

        Raises:
            ConfigError: `explore` is True.
            ValueError: the observation does not have the shape of the observation space, or it makes numbers of the
                graph NaN, as NaN in it or a mask that forbids every action do; or the state is none of this policy.
        """
        if explore:
            raise ConfigError(
                "OnnxPolicy.act: got explore=True, but an exported policy has no random numbers. Use Policy, or sample "
                "from the output 'dist_inputs' yourself."
            )
        state = self.initial_state() if state is None else state
        if not is_state(state) or [getattr(leaf, "shape", ()) for leaf in state.module] != self._shapes:
            raise ValueError(NO_STATE.format(state))
        step = single_step(batch_of_one(self.observation_space, obs), state, reward)
        connectors, step = self._obs_chain(state.connectors, step)
        leaves = tree_leaves(tree_map(lambda dtype, leaf: leaf.astype(dtype, copy=False), self._obs_dtypes, step.obs))
        feed = dict(zip(self._inputs, (*leaves, *state.module), strict=True))
        *outputs, dist_inputs = self._session.run(self._outputs, feed)
        lowest = dist_inputs.min()
        if lowest != lowest:  # NaN, in less time than with a function of numpy
            raise ValueError(
                "act: the graph gave NaN for this observation. Look for NaN in it, or for an action mask in it that "
                "forbids every action."
            )
        tensors = map(torch.from_numpy, outputs[: self._num_actions])
        action = tree_map(lambda _: next(tensors), self._action_names)
        memory, action = self._action_chain(state.action_memory, action, step.first)
        next_state = PolicyState(tuple(outputs[self._num_actions :]), connectors, memory, action)
        return tree_map(first_row, action), next_state


def _dtype(name: str) -> np.dtype[Any]:
    """Convert onnxruntime's name of a type, such as `tensor(float)`."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(inner, inner))
