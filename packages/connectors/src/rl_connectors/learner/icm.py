"""Curiosity by prediction: transitions that a model of the world does not foresee are worth more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete
from torch import Tensor, nn
from torch.nn import functional

from rl_connectors.learner._networks import minibatch_indices, seeded
from rl_connectors.learner._settings import require_count, require_layers, require_number
from rl_connectors.learner._transitions import (
    FlatFeatures,
    bound_copy,
    mean_of,
    next_observations,
    real_steps,
    take_steps,
    with_bonus,
)
from rl_connectors.obs._leaves import map_space
from rl_core import LearnerConnector, Rollout, Trained
from rl_core.env.spaces import Space, flat_dim, leaf_spaces
from rl_core.module.networks import MLP
from rl_core.records import Tree

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class IntrinsicCuriosity(LearnerConnector):
    """Adds the error with which a learned model foresees the next observation (intrinsic curiosity module, ICM).

        bonus = coefficient * 0.5 * |forward(phi(s), a) - phi(s')|^2
        loss  = (1 - beta) * inverse + beta * forward

    phi are features of observations. The inverse model infers the action from phi(s) and phi(s'), so that phi holds
    what the agent can influence: cross entropy for discrete actions, squared error for Box actions. The forward loss is
    the mean of `0.5 |...|^2`. Bonuses are worked out first, then the networks train on the rollout's real transitions.

    Source: Pathak et al. 2017, equations 3 to 7.
    """

    coefficient: float = 0.05
    """Weight of the bonus, at least 0."""
    feature_dim: int = 64
    """Numbers in phi."""
    hiddens: tuple[int, ...] = (128,)
    """Hidden layers of each of the three networks."""
    lr: float = 1e-3
    """Learning rate of their Adam, above 0."""
    beta: float = 0.2
    """Share of the forward loss, 0 to 1. Source: as above, section 3.1."""
    num_epochs: int = 1
    """Passes over each rollout."""
    minibatch_size: int = 256
    """Transitions per gradient step, at most."""
    features: FlatFeatures | None = field(default=None, init=False, repr=False, compare=False)
    """Vectors of observations."""
    actions: FlatFeatures | None = field(default=None, init=False, repr=False, compare=False)
    """Vectors of actions."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_number(self, "coefficient", at_least=0)
        require_number(self, "lr", above=0)
        require_number(self, "beta", at_least=0, at_most=1)
        require_layers(self, "hiddens")
        for name in ("feature_dim", "num_epochs", "minibatch_size"):
            require_count(self, name)

    def bind(self, observation_space: Space, action_space: Space) -> IntrinsicCuriosity:
        """Remember the spaces."""
        actions = FlatFeatures.of(map_space(_from_zero, action_space))
        return bound_copy(self, features=FlatFeatures.of(observation_space), actions=actions)

    def initial_state(self, seed: int) -> Tree:
        """Make the networks."""
        features, actions = self._bound()
        network = seeded(seed, lambda: CuriosityNetwork(features.size, actions.space, self.feature_dim, self.hiddens))
        return {"network": Trained(network, lr=self.lr), "seed": seed, "num_rollouts": 0}

    def __call__(self, state: Tree, rollout: Rollout) -> tuple[Tree, Rollout, Mapping[str, float]]:
        """Add the bonus, then train."""
        features, actions = self._bound()
        steps = real_steps(rollout)
        obs = features(take_steps(rollout.obs, steps))
        next_obs = features(take_steps(next_observations(rollout), steps))
        action = actions(take_steps(rollout.action, steps))
        columns = [torch.from_numpy(column) for column in (obs, action, next_obs)]
        with torch.no_grad():
            bonus = self.coefficient * state["network"].module(*columns)[0].numpy()
        forward_loss, inverse_loss = self._train(state, columns)
        report = {"intrinsic_reward_mean": mean_of(bonus), "forward_loss": forward_loss, "inverse_loss": inverse_loss}
        return {**state, "num_rollouts": state["num_rollouts"] + 1}, with_bonus(rollout, steps, bonus), report

    def _train(self, state: Tree, columns: list[Tensor]) -> tuple[float, float]:
        """Take the gradient steps of one rollout; return the mean losses."""
        trained = state["network"]
        losses: list[tuple[float, float]] = []
        indices = minibatch_indices(
            len(columns[0]),
            size=self.minibatch_size,
            num_epochs=self.num_epochs,
            stream=(state["seed"], state["num_rollouts"]),
        )
        for index in indices:
            forward, inverse = (error.mean() for error in trained.module(*(column[index] for column in columns)))
            trained.minimise((1 - self.beta) * inverse + self.beta * forward)
            losses.append((forward.item(), inverse.item()))
        table = np.array(losses).reshape(-1, 2)
        return mean_of(table[:, 0]), mean_of(table[:, 1])

    def _bound(self) -> tuple[FlatFeatures, FlatFeatures]:
        """Return what makes vectors of observations and of actions."""
        assert self.features is not None, "bound by the learner"
        assert self.actions is not None, "bound by the learner"
        return self.features, self.actions


class CuriosityNetwork(nn.Module):
    """Features of observations, the model that foresees them, and the one that infers actions from them."""

    def __init__(self, num_obs: int, action_space: Space, feature_dim: int, hiddens: tuple[int, ...]) -> None:
        """Make the layers; `num_obs` is D of observations, and actions are flattened ones of `action_space`."""
        super().__init__()
        num_actions = flat_dim(action_space)
        self.features = MLP((num_obs, *hiddens, feature_dim), activation="elu")
        self.forward_model = MLP((feature_dim + num_actions, *hiddens, feature_dim), activation="elu")
        self.inverse_model = MLP((2 * feature_dim, *hiddens, num_actions), activation="elu")
        self._leaves = [leaf for _, leaf in leaf_spaces(action_space)]

    def forward(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the errors `[N]` of the forward and the inverse model for vectors `[N, ...]`."""
        feature, next_feature = self.features(torch.stack((obs, next_obs))).unbind(0)
        foreseen = self.forward_model(torch.cat((feature, action), 1))
        inferred = self.inverse_model(torch.cat((feature, next_feature), 1))
        return 0.5 * (foreseen - next_feature).square().sum(1), self._inverse_error(inferred, action)

    def _inverse_error(self, inferred: Tensor, action: Tensor) -> Tensor:
        """Sum over the parts of the action: cross entropy of choices, squared error of numbers; `[N, A]` to `[N]`."""
        widths = [flat_dim(leaf) for leaf in self._leaves]
        parts = zip(self._leaves, _split(inferred, widths), _split(action, widths), strict=True)
        return torch.stack([_part_error(*part) for part in parts]).sum(0)


def _part_error(space: Space, inferred: Tensor, action: Tensor) -> Tensor:
    """Compare one part of the actions; `[N, width]` both, `[N]` comes out."""
    if isinstance(space, Discrete):
        return -(action * inferred.log_softmax(1)).sum(1)
    if isinstance(space, MultiDiscrete):
        widths = space.nvec.ravel().tolist()
        choices = zip(_split(inferred, widths), _split(action, widths), strict=True)
        return -torch.stack([(chosen * logits.log_softmax(1)).sum(1) for logits, chosen in choices]).sum(0)
    if isinstance(space, MultiBinary):
        return functional.binary_cross_entropy_with_logits(inferred, action, reduction="none").sum(1)
    return (inferred - action).square().sum(1)


def _split(values: Tensor, widths: list[int]) -> tuple[Tensor, ...]:
    """Cut `[N, sum of widths]` into the columns of each part."""
    return torch.split_with_sizes(values, widths, 1)


def _from_zero(space: Space) -> Space:
    """Modules count choices from 0, whatever the env's space begins with."""
    if isinstance(space, Discrete):
        return Discrete(space.n)
    return MultiDiscrete(space.nvec) if isinstance(space, MultiDiscrete) else space
