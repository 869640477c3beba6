"""Policies that play by rules, and what makes them."""

import torch

from rl_core import Policy, RLModule
from rl_core.connect.required import ActionToEnv
from rl_core.module.spec import ModuleSpec
from rl_multiagent.selfplay import UniformRandom


class Always(RLModule):
    """Plays one action, or the first legal one after it."""

    flatten_observations = False

    def __init__(self, observation_space, action_space, action=0):
        super().__init__(observation_space, action_space)
        self.action = action

    def forward_policy(self, obs, state=()):
        mask = obs["action_mask"] != 0
        distance = (torch.arange(mask.shape[-1]) - self.action) % mask.shape[-1]
        return torch.where(mask, -1000.0 * distance, -1e9), state

    def forward_value(self, obs, state=()):
        return torch.zeros(obs["action_mask"].shape[:-1])


class Undecided(UniformRandom):
    """Plays at random, but only where actions are drawn."""

    always_explores = False


BETS = {
    (0, ""): (0, 0, 0),  # of jack, queen, king
    (0, "pb"): (0, 1 / 3, 1),
    (1, "p"): (1 / 3, 0, 1),
    (1, "b"): (0, 1 / 3, 1),
}
"""How likely a player of Kuhn poker bets, after what was said (pass, bet)."""


class KuhnEquilibrium(RLModule):
    """The Nash equilibrium of Kuhn poker in which the first player never bluffs.

    Information states are the player (2), the card (3), and three bets of two choices each.
    """

    flatten_observations = False

    def forward_policy(self, obs, state=()):
        rows = []
        for row in obs["observations"].reshape(-1, 11):
            player, card = int(row[:2].argmax()), int(row[2:5].argmax())
            said = "".join("pb"[int(bet.argmax())] for bet in row[5:].reshape(3, 2) if bet.any())
            bet = BETS[player, said][card]
            rows.append([1 - bet, bet])
        return torch.tensor(rows).reshape(*obs["observations"].shape[:-1], 2).log().clamp(min=-1e9), state

    def forward_value(self, obs, state=()):
        return torch.zeros(obs["observations"].shape[:-1])


def make_policy(module_class, env, *, obs_connectors=(), seed=0, **model_config):
    """Make a policy for the first agent of an env."""
    agent = env.possible_agents[0]
    return Policy(
        ModuleSpec(module_class=module_class, model_config=model_config),
        env.observation_spaces[agent],
        env.action_spaces[agent],
        obs_connectors=obs_connectors,
        action_connectors=[ActionToEnv()],
        seed=seed,
    )
