"""A policy as it is used: connectors, their statistics, module and recurrent state together.

Sampling, evaluation, inference and serving all use this one bundle, and a checkpoint holds it as a component that can
be read without the training config, the env or Ray.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

from rl_core.checkpoint import Checkpoint
from rl_core.checkpoint_files import Json
from rl_core.config.codec import decode, encode
from rl_core.connect.chain import ActionChain, ChainState, ObsChain, as_tensor
from rl_core.connect.protocol import NO_SLOTS, ActionConnector, ObsConnector
from rl_core.connect.required import FlattenObs
from rl_core.env.check import bounds_of
from rl_core.env.spaces import space_from_json, space_to_json
from rl_core.errors import CheckpointError, RLError
from rl_core.module.half import HALF, act_in_half
from rl_core.module.images import ImageEncoder
from rl_core.module.rl_module import RLModule
from rl_core.module.spec import ModuleSpec
from rl_core.records import Step, Tree, Weights
from rl_core.storage import Location
from rl_core.tree import tree_map


@dataclass(frozen=True, slots=True)
class PolicyState:
    """What a policy remembers between two calls of `act` within an episode."""

    module: Tree
    """`[B, ...]`: recurrent state of the module; `()` for none."""
    connectors: ChainState
    """Of the observation connectors."""
    action_memory: tuple[Tree, ...]
    """`[B, ...]`: of the action connectors."""
    action: Tree = None
    """`[B, ...]`: the env action of the call before; None at the start of an episode."""
    begins: bool = False
    """The next observation is the first of an episode."""


class Policy:
    """Observations in, actions out.

    Example:
        >>> policy = Policy.from_checkpoint("runs/ppo-CartPole-v1-1/checkpoints/iteration_000030")
        >>> action, state = policy.act(obs)
        >>> action, state = policy.act(obs, state)
    """

    def __init__(
        self,
        spec: ModuleSpec,
        observation_space: Space[Any],
        action_space: Space[Any],
        *,
        obs_connectors: Sequence[ObsConnector] = (),
        action_connectors: Sequence[ActionConnector] = (),
        seed: int = 0,
        inference_dtype: str = "float32",
    ) -> None:
        """Build module and chains.

        Args:
            spec: Of the module.
            observation_space: The env's.
            action_space: The env's.
            obs_connectors: All observation connectors, the required one included if it is needed.
            action_connectors: All action connectors, the required one included.
            seed: Of the initial weights and of exploration in `act`.
            inference_dtype: What the module acts in: `float32`, `bfloat16` or `float16`.

        Raises:
            ConfigError: a connector or module cannot be built on these spaces.
            UnsupportedSpaceError: the module cannot handle them.
        """
        self.spec = spec
        self.observation_space = observation_space
        self.action_space = action_space
        self.obs_chain = ObsChain(obs_connectors, observation_space, action_space)
        self.action_chain = ActionChain(action_connectors, action_space)
        self.module = self.build_module(seed=seed)
        for part in self.module.learner_only:
            if hasattr(self.module, part):
                delattr(self.module, part)
        self.module.requires_grad_(False)
        self._encoders = [part for part in self.module.modules() if isinstance(part, ImageEncoder)]
        for encoder in self._encoders:
            encoder.hold_weights()
        if inference_dtype != "float32":
            act_in_half(self.module, HALF[inference_dtype])
        self.shared: tuple[Tree, ...] = self.obs_chain.shared(self.obs_chain.initial_state(1))
        self.version = 0
        self._seed = seed
        self._generator = torch.Generator().manual_seed(seed)

    def build_module(self, *, seed: int) -> RLModule:
        """Make the whole module for these chains, with the parts that only a learner needs."""
        return self.spec.build(self.obs_chain.output_space, self.action_chain.module_space, seed=seed)

    def initial_state(self, num_slots: int = 1, *, seed: int | None = None) -> PolicyState:
        """Make the state at the start of an episode, with the statistics the policy was trained with.

        Args:
            num_slots: B, episodes that are played at once.
            seed: Of action connectors that draw random numbers; None takes the policy's.
        """
        chain = self.obs_chain
        return PolicyState(
            module=self.module.initial_state(num_slots),
            connectors=chain.with_shared(chain.initial_state(num_slots), self.shared),
            action_memory=self.action_chain.initial_state(num_slots, seed=self._seed if seed is None else seed),
            begins=True,
        )

    def act(
        self, obs: Any, state: PolicyState | None = None, *, reward: float = 0.0, explore: bool = False
    ) -> tuple[Any, PolicyState]:
        """Choose the action for one observation.

        Args:
            obs: One observation of `observation_space`, without a batch axis.
            state: What the previous call of this episode returned; None begins an episode, as does `initial_state()`,
                which takes a seed for action connectors that draw random numbers.
            reward: Of the step that led here, for connectors that show the policy its rewards.
            explore: Draw from the distribution instead of taking its mode; a module that `always_explores` does.

        Returns:
            An action of `action_space` (a plain int for Discrete), and the state for the next call.

        Raises:
            ValueError: the observation does not have the shape of the observation space, or makes numbers of the
                module NaN, as NaN in it or a mask that forbids every action do; or the state is none.
            BadObservationError: a connector cannot use it.
        """
        state = self.initial_state() if state is None else state
        if not is_state(state) or (state.module != ()) != self.module.is_recurrent:
            raise ValueError(NO_STATE.format(state))
        step = single_step(batch_of_one(self.observation_space, obs), state, reward)
        connectors, step = self.obs_chain(state.connectors, step)
        with torch.inference_mode():
            dist_inputs, module_state = self.module.forward_policy(tree_map(as_tensor, step.obs), state.module)
            lowest = dist_inputs.min().item()
            if lowest != lowest:  # NaN
                raise ValueError(
                    "act: the module gave NaN for this observation. Look for NaN in it, or for an action mask in it "
                    "that forbids every action."
                )
            distribution = self.module.distribution
            if explore or self.module.always_explores:
                action = distribution.sample(dist_inputs, distribution.noise((1,), self._generator))
            else:
                action = distribution.mode(dist_inputs)
        memory, action = self.action_chain(state.action_memory, action, step.first)
        return tree_map(first_row, action), PolicyState(module_state, connectors, memory, action)

    def set_weights(self, weights: Weights) -> None:
        """Take newer weights, and the connectors' statistics if they come along."""
        load_tensors(self.module, weights.tensors, what=f"version {weights.version}")
        for encoder in self._encoders:
            encoder.hold_weights()
        self.version = weights.version
        if weights.connector_state != ():
            self.shared = weights.connector_state

    def get_state(self, weights: Weights | None = None) -> dict[str, Any]:
        """Return the whole bundle as a checkpoint component.

        Args:
            weights: Those to write, if not the policy's own.
        """
        weights = weights or Weights(version=self.version, tensors=self.module.state_dict())
        return {
            **self._description,
            "connector_state": self.shared,
            "version": weights.version,
            "tensors": dict(weights.tensors),
        }

    @cached_property
    def _description(self) -> dict[str, Any]:
        """What of a checkpoint component never changes: it is written with every checkpoint."""
        return {
            "module": Json(self.spec.to_json()),
            "observation_space": Json(space_to_json(self.observation_space)),
            "action_space": Json(space_to_json(self.action_space)),
            "obs_connectors": [Json(encode(piece)) for piece in self.obs_chain.pieces],
            "action_connectors": [Json(encode(piece)) for piece in self.action_chain.pieces],
        }

    def check_connectors(self, saved: Mapping[str, Any]) -> None:
        """Compare the connectors of a saved policy with these, by class and place.

        Other settings are fine as long as the saved weights and states fit.

        Args:
            saved: What its `get_state` gave.

        Raises:
            CheckpointError: they are others, or their settings differ and the weights do not fit; the message names
                the first that differs.
        """
        shapes = [
            {name: tuple(leaf.shape) for name, leaf in t.items()} for t in (self.module.state_dict(), saved["tensors"])
        ]
        fits = shapes[0] == shapes[1]
        for what, chain, stored in (
            ("Observation", self.obs_chain, saved["obs_connectors"]),
            ("Action", self.action_chain, saved["action_connectors"]),
        ):
            own = [type(piece).__name__ for piece in chain.pieces]
            given = [re.split("[:.]", piece["$object"])[-1] for piece in stored]
            for place, (mine, other) in enumerate(zip_longest(own, given, fillvalue="none")):
                if mine != other:
                    raise CheckpointError(
                        f"{what} connector {place} of the checkpoint is {other}, of this run {mine}: the checkpoint "
                        f"has {given}, this run has {own}. Build it with the connectors the checkpoint was saved with."
                    )
            for place, (piece, other) in enumerate(zip(chain.pieces, stored, strict=True)):
                if not fits and encode(piece)["fields"] != other["fields"]:
                    raise CheckpointError(
                        f"{what} connector {place} of the checkpoint is {own[place]} with {other['fields']}, of this "
                        f"run {piece!r}, and the saved weights do not fit. Use the settings of the checkpoint."
                    )

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], *, module: RLModule | None = None, allow: Collection[str] = ()
    ) -> Policy:
        """Rebuild the bundle from what `get_state` gave; see `from_checkpoint`."""
        try:
            policy = cls(
                ModuleSpec.from_json(state["module"], module=module, allow=allow),
                space_from_json(state["observation_space"]),
                space_from_json(state["action_space"]),
                obs_connectors=[decode(piece, allow=allow) for piece in state["obs_connectors"]],
                action_connectors=[decode(piece, allow=allow) for piece in state["action_connectors"]],
            )
            shared = tuple(state["connector_state"])
            policy.obs_chain.check_shared(shared)
            version, tensors = int(state["version"]), dict(state["tensors"])
            policy.set_weights(Weights(version=version, tensors=tensors, connector_state=shared))
        except RLError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"The policy in this checkpoint is malformed: {error!r}.") from error
        return policy

    @classmethod
    def from_checkpoint(
        cls, path: Location, policy: str = "default", *, module: RLModule | None = None, allow: Collection[str] = ()
    ) -> Policy:
        """Read one policy out of a checkpoint.

        Args:
            path: Checkpoint directory.
            policy: Id of the policy.
            module: The module to load the weights into, where it was given to training as an instance.
            allow: Top-level packages that the checkpoint may import classes from, besides rl_core and what is
                imported already.

        Raises:
            CheckpointError: damaged, of another format, or its weights do not fit.
            ConfigError: it names a class that may not be imported.
        """
        return cls.from_state(Checkpoint(path).load(f"policies/{policy}"), module=module, allow=allow)


def restart_state(module: RLModule, state: Tree, first: np.ndarray) -> Tree:
    """Put a module's initial recurrent state where an episode begins (`first`: `[B]`, bool)."""
    mask = torch.from_numpy(first)

    def pick(initial: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
        return torch.where(mask.view(-1, *[1] * (current.ndim - 1)), initial, current)

    return tree_map(pick, module.initial_state(len(first)), state)


def load_tensors(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Copy tensors into a module's parameters and buffers, in place.

    Raises:
        CheckpointError: names or shapes differ; the message lists how.
    """
    own = module.state_dict()
    if own.keys() == tensors.keys() and all(tensor.shape == tensors[name].shape for name, tensor in own.items()):
        with torch.no_grad():
            if own:
                torch._foreach_copy_(list(own.values()), [tensors[name] for name in own])
        return
    problems = [f"{name} is missing" for name in own if name not in tensors]
    problems += [f"{name} is not in this module" for name in tensors if name not in own]
    problems += [
        f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    raise CheckpointError(f"The weights of {what} do not fit {type(module).__name__}: " + "; ".join(problems[:8]))


def with_required_connector(
    spec: ModuleSpec,
    observation_space: Space[Any],
    action_space: Space[Any],
    obs_connectors: Sequence[ObsConnector],
) -> list[ObsConnector]:
    """Append the required observation piece to the user's, if the module cannot take what they give."""
    output_space = ObsChain(obs_connectors, observation_space, action_space).output_space
    if spec.wants_flat(output_space):
        return [*obs_connectors, FlattenObs()]
    return list(obs_connectors)


NO_STATE = "act: state is {!r:.80}, expected what act of this policy returned before, or None to begin."
"""Message for a state that is none, or another policy's."""


def is_state(value: object) -> bool:
    """Whether a user's value is the state of a policy at all."""
    return isinstance(value, PolicyState)


_ZERO_REWARD, _FALSE, _TRUE = np.zeros(1, np.float32), np.zeros(1, bool), np.ones(1, bool)


def single_step(obs: Tree, state: PolicyState, reward: float) -> Step:
    """Make the step of one slot outside training."""
    return Step(
        obs=obs,
        reward=np.full(1, reward, np.float32) if reward else _ZERO_REWARD,
        terminated=_FALSE,
        truncated=_FALSE,
        first=_TRUE if state.begins else _FALSE,
        artificial=_FALSE,
        final_slots=NO_SLOTS,
        final_obs=None,
        action=state.action,
    )


def batch_of_one(space: Space[Any], obs: Any) -> Tree:
    """Give one observation a batch axis, and the number types of its space.

    Raises:
        ValueError: a part is missing, has another shape, or numbers that its space cannot hold.
    """
    return _leaves_of(space, tree_map(lambda leaf: np.asarray(leaf)[np.newaxis], obs), "obs")


def _leaves_of(space: Space[Any], batch: Tree, where: str) -> Tree:
    """Check and convert the leaves `[1, ...]` of an observation; `where` is how a message names it."""
    if isinstance(space, Dict) and isinstance(batch, dict):
        if missing := space.keys() - batch.keys():
            raise ValueError(f"act: {where} has the keys {list(batch)}; {sorted(missing)} of {space} are missing.")
        return {key: _leaves_of(part, batch[key], f"{where}[{key!r}]") for key, part in space.items()}
    if isinstance(space, Tuple) and isinstance(batch, tuple):
        if len(batch) != len(space.spaces):
            raise ValueError(f"act: {where} has {len(batch)} parts, expected {len(space.spaces)} of {space}.")
        return tuple(_leaves_of(part, batch[place], f"{where}[{place}]") for place, part in enumerate(space.spaces))
    shape = space.shape
    if shape is None or not isinstance(batch, np.ndarray):
        return batch
    if batch.shape[1:] != shape:
        raise ValueError(
            f"act: {where} has shape {batch.shape[1:]}, expected {shape} of {space}. Give one observation, without a "
            "batch axis."
        )
    return _numbers_of(space, batch, where)


def _numbers_of(space: Space[Any], batch: np.ndarray, where: str) -> np.ndarray:
    """Give a leaf the number type of its space, if that loses nothing, and look whether choices exist."""
    dtype = space.dtype
    if dtype is None or batch.dtype.kind not in "biuf":
        return batch
    if dtype.kind == "f" or batch.dtype == dtype:
        numbers = batch.astype(dtype, copy=False)
    else:
        with np.errstate(invalid="ignore"):  # NaN is not equal below
            numbers = batch.astype(dtype)
        if not np.array_equal(numbers, batch):
            raise ValueError(f"act: {where} has numbers of {batch.dtype} that {space} cannot hold. Give it {dtype}.")
    if isinstance(space, Discrete | MultiDiscrete | MultiBinary):
        low, high = bounds_of(space)
        if ((numbers < low) | (numbers > high)).any():
            raise ValueError(f"act: {where} is {numbers[0]}, which is not in {space}.")
    return numbers


def first_row(leaf: np.ndarray) -> Any:
    """Take the action out of its batch of one; a scalar becomes a plain number."""
    row = leaf[0]
    return row.item() if isinstance(row, np.generic) else row
