"""The base of all policies: a torch module from observations to a distribution and a value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from gymnasium import spaces
from torch import Tensor, nn

from rl_core._internal.tree import Tree
from rl_core.module.distribution import Distribution, distribution_for


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
    ...     def forward_value(self, obs):
    ...         return self.value(obs).squeeze(-1)

    The rules, which `rl_core.testing.check_module` checks:

    * The constructor takes the two spaces, then keyword settings that can be stored as JSON.
    * Observations have any leading axes (`[B, ...]` when acting, `[T, B, ...]` or `[N, ...]` when learning), and rows
      do not influence each other. They arrive as the observation space says, after the observation connectors.
    * Tensors that are not parameters are registered with `register_buffer`, and no device is kept: work where the
      tensors are.
    """

    flatten_observations: ClassVar[bool] = True
    """Whether the connectors turn nested and discrete observations into one vector; images stay images."""
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

    def initial_state(self, batch_size: int) -> Tree:
        """Return the recurrent state `[B, ...]` at the start of an episode; `()` for a feed-forward module."""
        return ()

    @abstractmethod
    def forward_policy(self, obs: Tree, state: Tree) -> tuple[Tensor, Tree]:
        """Describe the distribution of the next actions.

        Args:
            obs: `[..., *observation shape]`.
            state: What `initial_state` or the previous call returned.

        Returns:
            The distribution's inputs `[..., P]` with `P = self.distribution.num_inputs`, and the next state.
        """

    @abstractmethod
    def forward_value(self, obs: Tree) -> Tensor:
        """Estimate the discounted return from each observation: `[...]`, without a last axis of 1."""

    def forward_train(self, obs: Tree) -> tuple[Tensor, Tensor]:
        """Return what a loss needs: distribution inputs `[..., P]` and values `[...]`.

        Override it where policy and value function share layers, to compute those once.
        """
        dist_inputs, _ = self.forward_policy(obs, ())
        return dist_inputs, self.forward_value(obs)
