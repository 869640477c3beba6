"""What critics that look at everyone get is what all agents saw at that moment."""

import numpy as np
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scheduled_env import make_runner

from rl_multiagent import MultiAgent


class Witness:
    """Follows the env's steps with dicts, one agent at a time, beside the runner's view."""

    def __init__(self, runner):
        self.view, self.agents = runner._view, runner.env.layout.agents
        self.newest = [{} for _ in range(runner.env.num_envs)]
        self.there = [set() for _ in range(runner.env.num_envs)]
        self.receive = self.view.receive
        self.view.receive = self

    def __call__(self, step):
        self.receive(step)
        for e, first in enumerate(step.first):
            if first:
                self.newest[e], self.there[e] = {}, set()
            for column, agent in enumerate(self.agents):
                if not first and (step.terminated[e, column] or step.truncated[e, column]):
                    self.there[e].discard(agent)
                if step.acts[e, column]:
                    self.newest[e][agent] = float(step.obs[0][e, column, 0])
                    self.there[e].add(agent)
            seen = [self.newest[e].get(agent, 0.0) for agent in self.agents]
            np.testing.assert_allclose(self.view.newest[e], seen + [float(a in self.there[e]) for a in self.agents])


def own_part(joint, num_agents):
    """What the agent whose row it is saw itself."""
    return joint.gather(-1, joint[..., -num_agents:].argmax(-1, keepdim=True)).squeeze(-1)


@settings(max_examples=15, phases=(Phase.explicit, Phase.generate))
@given(num_agents=st.integers(1, 4), seed=st.integers(0, 10_000), turn_based=st.booleans(), num_steps=st.integers(1, 9))
def test_joint_rows_hold_the_newest_observation_of_every_agent(num_agents, seed, turn_based, num_steps):
    runner = make_runner(MultiAgent(), num_steps=num_steps, num_agents=num_agents, seed=seed, turn_based=turn_based)
    runner.change(runner.policies, runner.mapper, joint=("default",))
    Witness(runner)
    for _ in range(3):
        for rollout in runner.sample().by_policy.values():
            own = own_part(rollout.extras["joint"], num_agents)[:-1]
            real = slice(None) if rollout.valid is None else rollout.valid
            torch.testing.assert_close(own[real], rollout.obs[:-1, :, 0][real])
            if len(rollout.final_index):
                own = own_part(rollout.extras["final_joint"], num_agents)
                torch.testing.assert_close(own, rollout.final_obs[:, 0])


def test_rollouts_without_a_critic_carry_nothing_more():
    runner = make_runner(MultiAgent(), num_steps=4, num_agents=2, seed=0, turn_based=False)
    assert runner.sample().by_policy["default"].extras == {}
