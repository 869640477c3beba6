import numpy as np
import pytest
import torch
from naming_env import NamingEnv, make_config, parameters

from rl_core import Algorithm
from rl_core.errors import ConfigError
from rl_core.testing.check_algorithm import without_clocks
from rl_multiagent import MultiAgent, PolicySpec, add_policy, map_agents, remove_policy, train_policies


def main_against_old(agent, episode):
    return "main" if (agent == "left") == (episode.number % 2 == 0) else "old"


def main_everywhere(agent, episode):
    return "main"


def make_main(**env_config):
    extension = MultiAgent(policies=("main",), policy_mapping_fn=main_everywhere)
    return make_config(extension, NamingEnv, alike=True, **env_config).build()


def test_a_frozen_copy_joins_on_all_runners_and_stays_as_it_is():
    algorithm = make_main()
    algorithm.train()
    algorithm.evaluate(num_episodes=4)
    add_policy(algorithm, "old", weights="main", policy_mapping_fn=main_against_old)
    frozen = parameters(algorithm.env_runner.policies["main"])
    for _ in range(3):
        result = algorithm.train()
    assert torch.equal(parameters(algorithm.env_runner.policies["old"]), frozen)
    assert not torch.equal(parameters(algorithm.env_runner.policies["main"]), frozen)
    assert result["env_runners/policy_episode_return_mean/old"] >= 0
    evaluated = algorithm.evaluate(num_episodes=8)
    assert evaluated["evaluation/policy_episode_return_mean/old"] >= 0
    assert list(algorithm.learner.learners) == ["main"]


def test_a_run_that_grew_is_saved_and_goes_on_bit_for_bit(tmp_path):
    algorithm = make_main()
    algorithm.train()
    add_policy(algorithm, "old", weights="main", policy_mapping_fn=main_against_old)
    algorithm.train()
    resumed = Algorithm.from_checkpoint(algorithm.save(tmp_path / "saved"), allow=[__name__.partition(".")[0]])
    for _ in range(2):
        np.testing.assert_equal(without_clocks(algorithm.train()), without_clocks(resumed.train()))


def test_a_policy_goes_only_when_nobody_is_played_by_it():
    algorithm = make_main(rounds=7)
    add_policy(algorithm, "old", weights="main", policy_mapping_fn=main_against_old)
    algorithm.train()
    with pytest.raises(ConfigError, match="'old' cannot be removed.*plays agent '(left|right)' in env slot 0, at step"):
        remove_policy(algorithm, "old", policy_mapping_fn=main_everywhere)
    map_agents(algorithm, main_everywhere)
    algorithm.train()
    remove_policy(algorithm, "old")
    assert list(algorithm.env_runner.policies) == ["main"]
    assert algorithm.train()["env_runners/policy_episode_return_mean/main"] > 0


def test_training_can_be_switched():
    algorithm = make_config(MultiAgent(policies=("left", "right"))).build()
    algorithm.train()
    train_policies(algorithm, ["right"])
    before = {name: parameters(policy) for name, policy in algorithm.env_runner.policies.items()}
    algorithm.train()
    after = {name: parameters(policy) for name, policy in algorithm.env_runner.policies.items()}
    assert torch.equal(before["left"], after["left"])
    assert not torch.equal(before["right"], after["right"])
    train_policies(algorithm, ["left", "right"])
    left = parameters(algorithm.learner.learners["left"])
    assert torch.equal(left, after["left"]), "its new learner begins where the policy stands"


def test_a_fixed_mapping_can_be_turned_round():
    extension = MultiAgent(policies=("a", "b"), policy_mapping_fn={"left": "a", "right": "b"})
    algorithm = make_config(extension, NamingEnv, alike=True).build()
    algorithm.train()
    map_agents(algorithm, {"left": "b", "right": "a"})
    algorithm.train()
    (slots,) = algorithm.env_runner._slots.values()  # both act as one batch
    assert set(slots.agents[slots.parts["a"]]) == {"right"}
    assert set(slots.agents[slots.parts["b"]]) == {"left"}


def test_wrong_changes_are_refused():
    algorithm = make_main()
    with pytest.raises(ConfigError, match="there is a policy 'main' already"):
        add_policy(algorithm, "main")
    with pytest.raises(ConfigError, match="no policy 'x', only main"):
        remove_policy(algorithm, "x")
    plain = make_config().build()
    plain.config.extensions = ()
    with pytest.raises(ConfigError, match=r"config\.use\(MultiAgent"):
        add_policy(plain, "x", PolicySpec())
