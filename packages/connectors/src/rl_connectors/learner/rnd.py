"""Curiosity by distillation: observations on which a network has not learned to imitate another are worth more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_connectors.learner._moments import add_rows, deviation, no_moments
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
from rl_core import LearnerConnector, Rollout, Trained
from rl_core.env.spaces import Space
from rl_core.module.networks import MLP
from rl_core.records import Tree

Array = np.ndarray[Any, Any]

_CLIP = 5.0
"""Bound of normalised observations, in standard deviations. Source: Burda et al. 2018, section 2.4."""


@dataclass(frozen=True)
class RandomNetworkDistillation(LearnerConnector):
    """Adds the error with which a trained network imitates a fixed random one on the next observation (RND).

        bonus = coefficient * e / std(e),  e = mean |predictor(x) - target(x)|^2
        x = clip((s' - mean(s')) / std(s'), -5, 5)

    Means and standard deviations are of all real steps so far, this rollout's included. Bonuses are worked out first,
    then the predictor trains on the rollout.

    Source: Burda et al. 2018, sections 2.2 and 2.4; there the standard deviation is that of the bonuses' returns.
    """

    coefficient: float = 0.5
    """Weight of the bonus, at least 0."""
    feature_dim: int = 64
    """Outputs of both networks."""
    hiddens: tuple[int, ...] = (128,)
    """Hidden layers of the target; the predictor has one more, like the last."""
    lr: float = 1e-3
    """Learning rate of the predictor's Adam, above 0."""
    num_epochs: int = 1
    """Passes over each rollout."""
    minibatch_size: int = 256
    """Observations per gradient step, at most."""
    features: FlatFeatures | None = field(default=None, init=False, repr=False, compare=False)
    """Vectors of observations."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_number(self, "coefficient", at_least=0)
        require_number(self, "lr", above=0)
        require_layers(self, "hiddens")
        for name in ("feature_dim", "num_epochs", "minibatch_size"):
            require_count(self, name)

    def bind(self, observation_space: Space, action_space: Space) -> RandomNetworkDistillation:
        """Remember the space."""
        return bound_copy(self, features=FlatFeatures.of(observation_space))

    def initial_state(self, seed: int) -> Tree:
        """Make the networks; nothing was seen."""
        features = self.features
        assert features is not None, "bound by the learner"
        network = seeded(seed, lambda: DistillationNetwork(features.size, self.feature_dim, self.hiddens))
        return {
            "network": Trained(network, lr=self.lr),
            "obs": no_moments(features.size),
            "error": no_moments(1),
            "seed": seed,
            "num_rollouts": 0,
        }

    def __call__(self, state: Tree, rollout: Rollout) -> tuple[Tree, Rollout, Mapping[str, float]]:
        """Add the bonus, then train."""
        assert self.features is not None, "bound by the learner"
        steps = real_steps(rollout)
        vectors = self.features(take_steps(next_observations(rollout), steps))
        seen = add_rows(state["obs"], vectors)
        normal = np.clip((vectors - seen["mean"]) / deviation(seen), -_CLIP, _CLIP)
        inputs = torch.from_numpy(normal.astype(np.float32))
        with torch.no_grad():
            error = state["network"].module(inputs).numpy()
        errors = add_rows(state["error"], error[:, np.newaxis])
        bonus = self.coefficient * error / deviation(errors)
        report = {"intrinsic_reward_mean": mean_of(bonus), "predictor_loss": self._train(state, inputs)}
        after = {"obs": seen, "error": errors, "num_rollouts": state["num_rollouts"] + 1}
        return {**state, **after}, with_bonus(rollout, steps, bonus), report

    def _train(self, state: Tree, inputs: Tensor) -> float:
        """Take the gradient steps of one rollout; return the mean loss."""
        trained, losses = state["network"], []
        indices = minibatch_indices(
            len(inputs),
            size=self.minibatch_size,
            num_epochs=self.num_epochs,
            stream=(state["seed"], state["num_rollouts"]),
        )
        for index in indices:
            loss = trained.module(inputs[index]).mean()
            trained.minimise(loss)
            losses.append(loss.item())
        return mean_of(np.array(losses))


class DistillationNetwork(nn.Module):
    """A random network that stays as it is, and one that learns to give the same."""

    def __init__(self, num_obs: int, feature_dim: int, hiddens: tuple[int, ...]) -> None:
        """Make the layers; `num_obs` is D of observations."""
        super().__init__()
        self.target = MLP((num_obs, *hiddens, feature_dim), activation="elu").requires_grad_(False)
        self.predictor = MLP((num_obs, *hiddens, hiddens[-1], feature_dim), activation="elu")

    def forward(self, obs: Tensor) -> Tensor:
        """Return the mean squared errors `[N]` for observations `[N, D]`."""
        error: Tensor = self.predictor(obs) - self.target(obs)
        return error.square().mean(1)
