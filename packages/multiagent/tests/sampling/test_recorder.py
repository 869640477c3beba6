"""Episodes for callbacks hold what a literal accountant saw, agent by agent."""

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from naming_env import OWN, make_config
from scheduled_env import make_runner

from rl_core import Algorithm, Callbacks
from rl_multiagent import MultiAgent


class Keep(Callbacks):
    def __init__(self):
        self.episodes = []

    def on_episode_end(self, *, episode, metrics):
        self.episodes.append(episode)
        metrics.log_value("env_runners/longest", episode.length, reduce="max")


class Named(Keep):
    """Its episodes outlive it: a run from a checkpoint makes its own instance."""

    shared: ClassVar[list] = []

    def __init__(self):
        self.episodes = self.shared


def draw_policy(agent, episode):
    return str(episode.rng.choice(["one", "two"]))


def rows_of(episodes):
    """List each agent's transitions of some episodes, as the accountant does."""
    found = {}
    for episode in episodes:
        for agent, part in episode.agents.items():
            rows = zip(part.obs[:-1, 0], part.action, part.reward, part.obs[1:, 0], strict=True)
            found.setdefault(agent, []).extend(tuple(map(float, row)) for row in rows)
    return found


@settings(max_examples=25, phases=(Phase.explicit, Phase.generate))
@given(
    num_agents=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    turn_based=st.booleans(),
    num_steps=st.integers(1, 9),
    who=st.sampled_from(["shared", "own", "drawn"]),
)
def test_episodes_hold_what_the_literal_accountant_saw(num_agents, seed, turn_based, num_steps, who):
    extension = {
        "shared": MultiAgent(),
        "own": MultiAgent(policies=tuple(f"a{place}" for place in range(num_agents))),
        "drawn": MultiAgent(policies=("one", "two"), policy_mapping_fn=draw_policy),
    }[who]
    keep = Keep()
    runner = make_runner(
        extension, num_steps=num_steps, callbacks=keep, num_agents=num_agents, seed=seed, turn_based=turn_based
    )
    for _ in range(60 // num_steps):
        runner.sample()
    for env_slot, slot in enumerate(runner.env._slots):
        account = slot.env.accountant
        episodes = [episode for episode in keep.episodes if episode.slot == env_slot]
        assert [episode.episode_return for episode in episodes] == pytest.approx(account.returns)
        for agent, rows in rows_of(episodes).items():
            done = [(row.obs, row.action, row.reward, row.next_obs) for row in account.done[agent]]
            assert rows == done[: len(rows)], "the rest belongs to the episode under way"
        ends = {
            (agent, part.obs[-2, 0]): part.terminated for episode in episodes for agent, part in episode.agents.items()
        }
        for agent, rows in account.done.items():
            for row in rows:
                assert ends.get((agent, row.obs), row.terminated) == row.terminated
        if who == "own":
            assert all(agent == policy for episode in episodes for agent, policy in episode.policies.items())


def test_callbacks_hear_of_each_agent_by_name_and_log_figures():
    keep = Keep()
    algorithm = make_config().callbacks(callbacks_class=keep).build()
    result = algorithm.train()
    assert result["env_runners/longest"] == 10
    assert len(keep.episodes) == result["env_runners/num_episodes"] == 8
    episode = keep.episodes[0]
    assert {agent: part.obs.shape for agent, part in episode.agents.items()} == {"left": (11, 2), "right": (11, 3)}
    assert episode.returns == {agent: part.episode_return for agent, part in episode.agents.items()}
    assert not episode.agents["left"].terminated
    algorithm.evaluate()
    assert len(keep.episodes) == 8, "only of training"


def test_open_episodes_are_saved_and_finished_later(tmp_path):
    algorithm = make_config(OWN, rounds=40).callbacks(callbacks_class=Named).build()
    algorithm.train()
    assert not Named.shared, "25 steps of 40"
    path = algorithm.save(tmp_path / "saved")
    both = []
    for run in (algorithm, Algorithm.from_checkpoint(path, allow=["test_recorder", "naming_env"])):
        Named.shared.clear()
        run.train()
        both.append(list(Named.shared))
    assert len(both[0]) == 4
    for one, two in zip(*both, strict=True):
        assert one.length == 40
        assert one.returns == two.returns
        for agent, part in one.agents.items():
            np.testing.assert_array_equal(part.obs, two.agents[agent].obs)
            np.testing.assert_array_equal(part.reward, two.agents[agent].reward)
