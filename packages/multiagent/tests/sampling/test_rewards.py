"""What connectors make of rewards."""

from dataclasses import dataclass, replace

import pytest
import torch
from naming_env import OWN, NamingEnv, make_config
from scheduled_env import ScheduledEnv

from rl_core import ObsConnector
from rl_multiagent import MultiAgent


@dataclass(frozen=True)
class MarkEnds(ObsConnector):
    """Adds 10 to the reward of a step that is cut, and 100 to that of one that terminates."""

    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        return state, replace(step, reward=step.reward + 10.0 * step.truncated + 100.0 * step.terminated)


@pytest.mark.parametrize(
    ("extension", "env", "settings"),
    [(OWN, NamingEnv, {}), (MultiAgent(), ScheduledEnv, {"num_agents": 3, "turn_based": True, "accounts": False})],
)
def test_connectors_are_told_how_an_agents_part_ended(extension, env, settings):
    config = make_config(extension, env, **settings).environment(disable_env_checking=True)
    plain, marked = (
        given.build().env_runner.sample().by_policy
        for given in (config.copy(), config.copy().env_runners(env_to_module_connector=(MarkEnds(),)))
    )
    ends = 0
    for name, rollout in plain.items():
        ended = torch.zeros_like(rollout.terminated).flatten()
        ended[rollout.final_index] = True  # not where a decision is open when the rollout ends
        ended = ended.view_as(rollout.terminated)
        cut = rollout.truncated & ended
        added = marked[name].reward - rollout.reward
        torch.testing.assert_close(added, 10.0 * (cut & ~rollout.terminated) + 100.0 * (rollout.terminated & ended))
        ends += int(ended.sum())
    assert ends
