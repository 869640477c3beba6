"""Finished episodes with many agents, against sums by hand."""

import numpy as np
import pytest
from naming_env import NamingEnv, make_config

from rl_multiagent import MultiAgent
from rl_multiagent.records import AgentsStep
from rl_multiagent.sampling.episodes import AgentEpisodeCounter


def said(acts, reward=((0, 0), (0, 0)), terminated=((0, 0), (0, 0)), first=(False, False)):
    return AgentsStep(
        obs=(None,),
        acts=np.array(acts, bool),
        reward=np.array(reward, np.float64),
        terminated=np.array(terminated, bool),
        truncated=np.zeros((2, 2), bool),
        first=np.array(first),
        final_obs=(None,),
        final_observed=np.zeros((2, 2), bool),
    )


def test_who_played_whom_and_what_each_got_is_told_of_each_episode():
    counter = AgentEpisodeCounter(2, ("left", "right"), ("main", "old"))
    counter.begin(said([[1, 0], [1, 0]]))
    owner = np.array([[0, 1], [1, 0]])
    counter.add(said([[0, 1], [1, 0]], reward=[[1, -1], [2, 0]]), owner)
    nothing = counter.take()
    assert nothing.agent_returns.shape == nothing.played_by.shape == nothing.took_part.shape == (0, 2)
    # The first slot's game ends; in the second, whose right agent never came, left is done with the step after.
    counter.add(said([[1, 0], [1, 0]], reward=[[3, -3], [0, 0]], first=[True, False]), owner)
    owner = np.array([[1, 0], [1, 0]])
    counter.add(said([[0, 1], [1, 0]], reward=[[0, 9], [5, 0]], first=[False, True]), owner)
    episodes = counter.take()
    assert (episodes.agents, episodes.policies) == (("left", "right"), ("main", "old"))
    assert episodes.played_by.tolist() == [[0, 1], [1, 0]]
    assert episodes.agent_returns.tolist() == [[4, -4], [7, 0]]
    assert episodes.took_part.tolist() == [[True, True], [True, False]]
    assert episodes.returns.tolist() == [0, 7]
    assert episodes.lengths.tolist() == [2, 3]
    assert {name: values.tolist() for name, values in episodes.parts.items()} == {
        "agent_episode_return_mean/left": [4, 7],
        "agent_episode_return_mean/right": [-4],
        "policy_episode_return_mean/main": [4],
        "policy_episode_return_mean/old": [-4, 7],
    }


def in_turn(agent, episode):
    return "one" if (agent == "left") == (episode.number % 2 == 0) else "two"


def test_a_run_tells_its_newest_episodes():
    algorithm = make_config(
        MultiAgent(policies=("one", "two"), policy_mapping_fn=in_turn), NamingEnv, alike=True
    ).build()
    result = algorithm.train()  # 25 steps of 4 env slots, whose episodes have 10
    episodes = algorithm.env_runner.episodes
    assert episodes.policies == ("one", "two")
    assert episodes.played_by.tolist() == [[0, 1]] * 4 + [[1, 0]] * 4
    assert episodes.took_part.all()
    np.testing.assert_array_equal(episodes.agent_returns.sum(1), episodes.returns)
    left = episodes.agent_returns[:, 0].mean()
    assert result["env_runners/agent_episode_return_mean/left"] == pytest.approx(left)
    algorithm.stop()
