from dataclasses import dataclass

import numpy as np
import pytest
import torch
from naming_env import NamingEnv, make_config, parameters

from rl_core import Algorithm, Callbacks, ConnectorState, ObsConnector, SACConfig
from rl_core.errors import CheckpointError, ConfigError
from rl_core.testing.check_algorithm import without_clocks
from rl_multiagent import (
    MAPPOConfig,
    MultiAgent,
    PolicySpec,
    add_policy,
    load_policy,
    map_agents,
    remove_policy,
    restart_policy,
    train_policies,
)


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


@dataclass(frozen=True)
class CountObservations(ObsConnector):
    """Observations as they are; its statistics are how many it saw."""

    def output_space(self, observation_space, action_space):
        return observation_space

    def initial_state(self, observation_space, action_space, num_slots):
        return ConnectorState(np.zeros(()))

    def observe(self, state, step):
        return state.shared + len(step.reward)

    def __call__(self, state, step):
        return state, step


def test_one_policy_of_a_checkpoint_is_loaded_with_its_statistics(tmp_path):
    config = make_config().env_runners(env_to_module_connector=(CountObservations(),))
    trained = config.build()
    trained.train()
    saved, path = trained.env_runner.policies["left"], trained.save(tmp_path / "saved")
    fresh = config.debugging(seed=1).build()
    fresh.evaluate(num_episodes=4)
    right = parameters(fresh.env_runner.policies["right"])
    load_policy(fresh, "left", path)
    assert saved.shared[0] > 0
    for runner in (fresh.env_runner, fresh.evaluator.runner):
        assert torch.equal(parameters(runner.policies["left"]), parameters(saved))
        assert torch.equal(parameters(runner.policies["right"]), right)
        assert runner.get_weights()["left"].connector_state == saved.shared
    assert torch.equal(parameters(fresh.learner.learners["left"]), parameters(saved))
    assert fresh.train()["learner/left/policy_age"] == 0
    assert not torch.equal(parameters(fresh.env_runner.policies["left"]), parameters(saved)), "it learns on"


def test_critics_that_only_a_learner_has_are_loaded_too(tmp_path):
    settings = {"rl_module.model_config.fcnet_hiddens": [8], "training.num_steps_sampled_before_learning_starts": 10}
    extension = MultiAgent(
        policies={name: PolicySpec(algorithm=SACConfig, settings=settings) for name in NamingEnv.possible_agents}
    )
    trained = make_config(extension, alike=True).build()
    trained.train()
    path = trained.save(tmp_path / "saved")
    fresh = make_config(extension, alike=True).debugging(seed=1).build()
    load_policy(fresh, "right", path, "left")
    assert torch.equal(parameters(fresh.learner.learners["right"]), parameters(trained.learner.learners["left"]))


def test_a_policy_of_another_env_or_none_is_refused(tmp_path):
    algorithm = make_config().build()
    path = algorithm.save(tmp_path / "saved")
    before = parameters(algorithm.env_runner.policies["left"])
    with pytest.raises(ConfigError, match="no policy 'up', only left, right"):
        load_policy(algorithm, "up", path)
    with pytest.raises(CheckpointError, match="the observation space of policy 'right' .* is not that of 'left'"):
        load_policy(algorithm, "left", path, "right")
    with pytest.raises(CheckpointError, match="policies/up"):
        load_policy(algorithm, "left", path, "up")
    assert torch.equal(parameters(algorithm.env_runner.policies["left"]), before)


def test_a_policy_that_begins_anew_has_its_first_weights_and_a_new_optimizer():
    algorithm = make_main()
    first = parameters(algorithm.env_runner.policies["main"])
    algorithm.train()
    algorithm.evaluate(num_episodes=4)
    before = algorithm.learner.updaters["main"]
    restart_policy(algorithm, "main")
    for tensors in algorithm.foreach_env_runner(lambda runner: parameters(runner.policies["main"])):
        assert torch.equal(tensors, first)
    assert algorithm.learner.updaters["main"] is not before
    algorithm.train()
    assert not torch.equal(parameters(algorithm.env_runner.policies["main"]), first)
    with pytest.raises(ConfigError, match="no policy 'stranger' learns, only main"):
        restart_policy(algorithm, "stranger")


def test_a_policy_that_begins_anew_has_its_first_statistics():
    algorithm = make_config().env_runners(env_to_module_connector=(CountObservations(),)).build()
    algorithm.train()
    assert algorithm.env_runner.get_weights()["left"].connector_state[0] > 0
    restart_policy(algorithm, "left")
    weights = algorithm.env_runner.get_weights()
    assert weights["left"].connector_state == (0.0,)
    assert weights["right"].connector_state[0] > 0


class CountUpdates(Callbacks):
    def on_learner_update_end(self, *, learner, result, metrics):
        (name,) = {key.split("/")[1] for key in result}
        metrics.log_value(f"updates/{name}", 1, reduce="lifetime_sum")


def updates(result):
    return {key: value for key, value in result.items() if key.startswith("updates/")}


def test_learners_tell_of_updates_also_those_that_come_later(tmp_path):
    extension = MultiAgent(policies=("main",), policy_mapping_fn=main_everywhere)
    algorithm = make_config(extension, NamingEnv, alike=True).callbacks(callbacks_class=CountUpdates).build()
    assert updates(algorithm.train()) == {"updates/main": 1}
    saved = algorithm.save(tmp_path / "saved")
    add_policy(algorithm, "old", weights="main", policy_mapping_fn=main_against_old)
    train_policies(algorithm, ("main", "old"))
    assert updates(algorithm.train()) == {"updates/main": 2, "updates/old": 1}
    load_policy(algorithm, "old", saved, "main")
    assert updates(algorithm.train()) == {"updates/main": 3, "updates/old": 2}


def test_the_critic_of_several_policies_tells_of_updates_too():
    config = MAPPOConfig().environment(NamingEnv, env_config={"alike": True}).use(MultiAgent())
    config.training(train_batch_size_per_learner=100, minibatch_size=25, num_epochs=1, critic_hiddens=(8,))
    algorithm = config.rl_module(model_config={"fcnet_hiddens": (8,)}).callbacks(callbacks_class=CountUpdates).build()
    assert updates(algorithm.train()) == {"updates/central_critic": 1, "updates/default": 1}
