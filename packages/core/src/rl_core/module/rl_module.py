"""The base of all policies: a torch module from observations to a distribution and a value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from gymnasium import spaces
from torch import Tensor, nn

from rl_core.config.check import Settings
from rl_core.module.distribution import Distribution, distribution_for
from rl_core.tree import Tree, tree_leaves


class TrainVJP(NamedTuple):
    """Outputs of a module for training, without a graph, and what the gradients of its parameters follow from.

    The outputs are valid until the next `forward_train_vjp` of the module after `gradients` was called.
    """

    dist_inputs: Tensor
    """`[N, P]`"""
    value: Tensor
    """`[N]`"""
    parameters: Sequence[Tensor]
    """What gets gradients."""
    gradients: Callable[[Tensor, Tensor, Sequence[Tensor]], Any]
    """`gradients(dist_grad, value_grad, into)`: from those of both outputs to those of the parameters, which it writes
    into tensors of their shapes."""


class RLModule(nn.Module, ABC):
    """One policy with its value function; `ActorCritic` is the default, and yours is written like this.

    >>> import torch
    >>> class LinearModule(RLModule):
    ...     def __init__(self, observation_space, action_space):
    ...         super().__init__(observation_space, action_space)
    ...         (num_features,) = observation_space.shape
    ...         self.policy = torch.nn.Linear(num_features, self.distribution.num_inputs)
    ...         self.value = torch.nn.Linear(num_features, 1)
    ...
    ...     def forward_policy(self, obs, state):
    ...         return self.policy(obs), state
    ...
    ...     def forward_value(self, obs, state=()):
    ...         return self.value(obs).squeeze(-1)

    The rules, which `rl_core.testing.check_module` checks:

    * The constructor takes the two spaces, then keyword settings that can be stored as JSON.
    * Without memory, observations have any leading axes (`[B, ...]` when acting, `[T, B, ...]` or `[N, ...]` when
      learning). They arrive as the observation space says, after the observation connectors.
    * With memory (`initial_state` returns tensors), `forward_policy` and `forward_value` take one step `[B, ...]` and
      the state before it, and `forward_train` takes segments `[L, S, ...]` and the state before their first step. Both
      give the same numbers. `forward_train` must then be overridden.
    * Rows do not influence each other.
    * Tensors that are not parameters are registered with `register_buffer`, and no device is kept: work where the
      tensors are.

    Another distribution than the one of the action space is set in the constructor, before layers are sized by
    `self.distribution.num_inputs`: `self.distribution = Autoregressive(Categorical(3), DiagonalGaussian((2,)))`.
    """

    flatten_observations: ClassVar[bool] = True
    """Whether the connectors turn nested and discrete observations into one vector; images stay images. A class for
    which it depends on the space overrides `wants_flat` instead."""
    learner_only: ClassVar[tuple[str, ...]] = ()
    """Names of direct submodules that only the learner needs, such as critics; runners and exported policies go
    without them."""
    settings_class: ClassVar[type[Settings] | None] = None
    """Settings that the constructor takes as its third argument, in place of keyword arguments; None for none."""
    settings_from_algorithm: ClassVar[bool] = False
    """Whether the algorithm makes those settings, of its section `training` and the `ModelSettings` that
    `rl_module(model_config=...)` then is, also for classes derived from this one."""
    always_explores: ClassVar[bool] = False
    """Whether actions are drawn even where others take their mode, for modules that are random by their rules."""
    max_seq_len: int = 20
    """With memory: the most steps of a segment in training."""
    distribution: Distribution
    """Turns the policy's outputs into actions and log probabilities. Set by `RLModule.__init__` from the action space;
    replace it in your own if you want another one."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        """Choose the distribution.

        Args:
            observation_space: Of one observation, after the observation connectors.
            action_space: Of one action, before the action connectors.

        Raises:
            UnsupportedSpaceError: there is no distribution for the action space.
        """
        super().__init__()
        self.observation_space = observation_space
        self.action_space = action_space
        self.distribution = distribution_for(action_space)

    @classmethod
    def wants_flat(cls, observation_space: spaces.Space[Any]) -> bool:
        """Whether the connectors shall turn observations of this space into one float vector for the module."""
        is_fit = isinstance(observation_space, spaces.Box) and len(observation_space.shape) in (1, 3)
        return cls.flatten_observations and not is_fit

    @property
    def is_recurrent(self) -> bool:
        """Whether the module carries a state from step to step."""
        return any(True for _ in tree_leaves(self.initial_state(1)))

    def initial_state(self, batch_size: int) -> Tree:
        """Return the recurrent state `[B, ...]` at the start of an episode; `()` for a feed-forward module."""
        return ()

    @abstractmethod
    def forward_policy(self, obs: Tree, state: Tree) -> tuple[Tensor, Tree]:
        """Describe the distribution of the next actions, one step ahead.

        Args:
            obs: `[B, *observation shape]`; any leading axes for a feed-forward module.
            state: `[B, ...]` before this step: what `initial_state` or the previous call returned.

        Returns:
            The distribution's inputs `[B, P]` with `P = self.distribution.num_inputs`, and the next state.
        """

    @abstractmethod
    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Estimate the discounted return from each observation.

        Args:
            obs: `[B, *observation shape]`; any leading axes for a feed-forward module.
            state: `[B, ...]` before this step.

        Returns:
            Values `[B]`, without a last axis of 1.
        """

    def forward_train(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tensor]:
        """Return what a loss needs; override it where policy and value function share layers, or with memory.

        Args:
            obs: `[N, *observation shape]`. With memory `[L, S, *observation shape]`: S segments of L steps, each within
                one episode, padded at the end only.
            state: `()`. With memory `[S, ...]`, before each segment's first step.

        Returns:
            Distribution inputs `[N, P]` and values `[N]`; with memory `[L, S, P]` and `[L, S]`.
        """
        dist_inputs, _ = self.forward_policy(obs, state)
        return dist_inputs, self.forward_value(obs, state)

    def forward_train_vjp(self, obs: Tree) -> TrainVJP | None:
        """Compute `forward_train` without a graph, together with its vector-Jacobian product; None to leave it be.

        Only a matter of speed: where a module knows its gradients, losses need not record a graph and walk it back.
        """
        return None
