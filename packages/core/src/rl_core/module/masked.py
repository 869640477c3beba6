"""Policies that are told with each observation which actions are allowed; those of DQN and SAC: `masked_values`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rl_core.config.check import build_settings
from rl_core.errors import UnsupportedSpaceError
from rl_core.module.actor_critic import ActorCritic
from rl_core.module.rl_module import RLModule
from rl_core.module.settings import ModelSettings
from rl_core.tree import Tree

_NUM_ROWS_SHOWN = 8


def mask_logits(logits: Tensor, mask: Tensor) -> Tensor:
    """Give forbidden choices a probability of zero.

    They get the logit `finfo.min / 2`: so low that the probability is exactly zero, but finite, so that log
    probabilities, entropies, divergences and their gradients are finite too. No gradient reaches what is forbidden.

    Args:
        logits: `[..., n]`, of a `Categorical`, or of a `MultiCategorical` whose mask has all choices in a row.
        mask: `[..., n]` of any type; what is not zero is allowed.

    Returns:
        Logits `[..., n]`.

    Raises:
        ValueError: a row forbids everything. A recorded graph cannot refuse: there the row becomes NaN.
    """
    allowed = mask != 0
    masked = torch.where(allowed, logits, torch.finfo(logits.dtype).min / 2)
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        return torch.where(allowed.any(-1, keepdim=True), masked, torch.nan)
    _check_mask(allowed)
    return masked


def _check_mask(allowed: Tensor) -> None:
    """Refuse rows that allow nothing."""
    possible = allowed.any(-1)
    if possible.is_meta or possible.all():
        return
    rows = (~possible).nonzero().squeeze(-1).tolist()
    shown = ", ".join(map(str, rows[:_NUM_ROWS_SHOWN])) + (", ..." if len(rows) > _NUM_ROWS_SHOWN else "")
    raise ValueError(
        f"action mask: {len(rows)} of {possible.numel()} rows forbid every action (rows {shown}), expected one that is "
        "allowed at least. Let the env allow an action without effect where there is nothing to choose, also in the "
        "observation that ends an episode."
    )


def unmasked_space(
    name: str, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> spaces.Space[Any]:
    """Return the space of what the networks of a masked module see.

    Args:
        name: What the message calls the module.
        observation_space: Dict with `observations` and `action_mask`.
        action_space: Discrete.

    Raises:
        UnsupportedSpaceError: the spaces are others.
    """
    if not isinstance(action_space, spaces.Discrete):
        raise UnsupportedSpaceError(f"{name}: got actions of {action_space}, expected Discrete.")
    parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
    mask = parts.get("action_mask")
    if "observations" not in parts or mask is None or mask.shape != (int(action_space.n),):
        raise UnsupportedSpaceError(
            f"{name}: got observations of {observation_space}, expected a Dict with 'observations' and 'action_mask' "
            f"of shape ({action_space.n},), one number per action."
        )
    return parts["observations"]


class MaskedActorCritic(RLModule):
    """`ActorCritic` for envs that say which of their discrete actions are allowed.

    Observations are a Dict with `observations`, which the networks see, and `action_mask` `[n]`, one number per action,
    not zero where it is allowed. Settings are those of `ModelSettings`, by name.

    Source: Huang and Ontanon 2022, A Closer Look at Invalid Action Masking in Policy Gradient Algorithms.
    """

    flatten_observations: ClassVar[bool] = False

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], **model_config: Any
    ) -> None:
        """Build the networks.

        Args:
            observation_space: Dict with `observations` and `action_mask`.
            action_space: Discrete.
            **model_config: Fields of `ModelSettings`.

        Raises:
            ConfigError: a setting is unknown or out of range.
            UnsupportedSpaceError: the spaces are others.
        """
        super().__init__(observation_space, action_space)
        observations = unmasked_space("MaskedActorCritic", observation_space, action_space)
        settings = build_settings(ModelSettings, model_config, where="model_config")
        self.networks = ActorCritic(observations, action_space, settings)

    def initial_state(self, batch_size: int) -> Tree:
        """Return the state of the networks' memory."""
        return self.networks.initial_state(batch_size)

    def forward_policy(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tree]:
        """Return masked logits `[B, n]` (`[..., n]` without memory) and the next state."""
        logits, state = self.networks.forward_policy(obs["observations"], state)
        return mask_logits(logits, obs["action_mask"]), state

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Return the values `[B]` (`[...]` without memory), which the mask does not enter."""
        return self.networks.forward_value(obs["observations"], state)

    def forward_train(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tensor]:
        """Return masked logits `[..., n]` and values `[...]`."""
        logits, value = self.networks.forward_train(obs["observations"], state)
        return mask_logits(logits, obs["action_mask"]), value
