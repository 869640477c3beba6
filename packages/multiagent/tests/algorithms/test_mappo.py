import numpy as np
import pytest
import torch
from naming_env import OWN, NamingEnv, make_config
from scheduled_env import ScheduledEnv

from rl_core import PPOConfig
from rl_core.errors import ConfigError
from rl_core.learning.optimizer import FlatAdam
from rl_core.ops.returns import gae
from rl_core.testing import check_algorithm
from rl_multiagent import MAPPOConfig, MultiAgent, PolicySpec, add_policy, map_agents, remove_policy, train_policies
from rl_multiagent.algorithms.mappo import MAPPOSettings
from rl_multiagent.critic_learner import CriticLearner
from rl_multiagent.module.actor import Actor
from rl_multiagent.module.central_critic import CentralCritic


def mappo(extension=OWN, env=NamingEnv, **env_config):
    config = MAPPOConfig().environment(env, env_config=env_config).env_runners(num_envs_per_env_runner=4)
    config.training(train_batch_size_per_learner=100, minibatch_size=25, num_epochs=3, lr=0.01, critic_hiddens=(8,))
    return config.rl_module(model_config={"fcnet_hiddens": (8,)}).use(extension)


@pytest.mark.parametrize(
    ("extension", "env_config"), [(OWN, {}), (MultiAgent(), {"alike": True})], ids=["own", "shared"]
)
def test_runs_conform_to_what_is_asked_of_every_algorithm(extension, env_config):
    check_algorithm(mappo(extension, **env_config))


@pytest.mark.parametrize("memory", [{}, {"use_lstm": True, "lstm_cell_size": 4}], ids=["feed-forward", "memory"])
def test_agents_that_come_and_go_learn_with_a_critic(memory):
    config = mappo(MultiAgent(), ScheduledEnv, num_agents=3, turn_based=True, accounts=False)
    config.environment(disable_env_checking=True).rl_module(model_config={"fcnet_hiddens": (4,), **memory})
    algorithm = config.build()
    for _ in range(3):
        result = algorithm.train()
    assert np.isfinite(result["learner/central_critic/value_loss"])
    assert np.isfinite(result["learner/default/policy_loss"])


def test_both_agents_learn_and_the_critic_explains_their_returns():
    algorithm = mappo().build()
    for _ in range(30):
        result = algorithm.train()
    assert algorithm.evaluate(num_episodes=20)["evaluation/episode_return_mean"] > 17  # of 20; 8.3 by chance
    assert result["learner/central_critic/explained_variance"] > 0.5
    assert "learner/left/value_loss" not in result


def test_policies_of_equal_structure_act_as_one_batch_by_the_numbers_of_each_alone():
    algorithm = mappo(alike=True).build()
    algorithm.train()
    (slots,) = algorithm.env_runner._slots.values()
    assert list(slots.parts) == ["left", "right"]
    for name, rollout in algorithm.env_runner.sample().by_policy.items():
        alone, _ = algorithm.env_runner.policies[name].module.forward_policy(rollout.obs[:-1])
        torch.testing.assert_close(rollout.behavior_dist_inputs, alone)


def test_one_policy_of_a_run_may_have_the_critic_and_another_its_own_value_function():
    extension = MultiAgent(policies={"left": PolicySpec(algorithm=MAPPOConfig), "right": PolicySpec()})
    algorithm = make_config(extension).build()
    rollouts = algorithm.env_runner.sample().by_policy
    assert set(rollouts["left"].extras) == {"joint", "final_joint"}
    assert rollouts["right"].extras == {}
    result = algorithm.train()
    assert "learner/right/value_loss" in result
    assert "learner/left/value_loss" not in result


def test_a_policy_with_the_critic_joins_a_run_without_one():
    algorithm = make_config(MultiAgent(policies=("one",)), alike=True).build()
    algorithm.train()
    spec = PolicySpec(algorithm=MAPPOConfig, settings={"training.train_batch_size_per_learner": 100})
    add_policy(algorithm, "two", spec, train=True, policy_mapping_fn={"left": "one", "right": "two"})
    result = algorithm.train()
    assert np.isfinite(result["learner/central_critic/value_loss"])
    train_policies(algorithm, ("one",))
    assert np.isnan(algorithm.train()["learner/central_critic/value_loss"])


def side_by_side(agent, episode):
    return {"left": "one", "right": "two"}[agent]


def one_alone(agent, episode):
    return "one"


def test_a_critic_goes_with_the_last_policy_that_it_judges(tmp_path):
    policies = {"one": PolicySpec(), "two": PolicySpec(algorithm=MAPPOConfig)}
    algorithm = make_config(MultiAgent(policies=policies, policy_mapping_fn=side_by_side), alike=True).build()
    algorithm.train()
    with pytest.raises(ConfigError, match="no agent is mapped to 'two'"):
        map_agents(algorithm, {"left": "one", "right": "one"})
    map_agents(algorithm, one_alone)
    algorithm.train()
    remove_policy(algorithm, "two")
    assert set(algorithm.learner.learners) == {"one"}
    restored = make_config(MultiAgent(policies=("one",), policy_mapping_fn=one_alone), alike=True).build()
    restored.restore(algorithm.save(tmp_path / "saved"))
    assert np.isfinite(restored.train()["learner/one/policy_loss"])


def test_targets_are_those_of_the_equations():
    runner = mappo().build().env_runner
    rollout = runner.sample().by_policy["left"]
    width = rollout.extras["joint"].shape[-1]
    settings = MAPPOSettings(gamma=0.9, lambda_=0.8)
    module = CentralCritic(width, (8,), "tanh")
    learner = CriticLearner(module, settings, make_optimizer=lambda p: FlatAdam(p, epsilon=1e-5), seed=0)
    with torch.no_grad():
        value, final = module(rollout.extras["joint"]), module(rollout.extras["final_joint"])
    next_value = value[1:].clone()
    for row, position in enumerate(rollout.final_index.tolist()):
        next_value.view(-1)[position] = final[row]
    judged, _ = learner.judge({"left": rollout})
    torch.testing.assert_close(judged["left"].extras["value"], value)
    torch.testing.assert_close(judged["left"].extras["next_value"], next_value)
    advantage = gae(
        rollout.reward, value[:-1], next_value, rollout.terminated, rollout.truncated, gamma=0.9, lambda_=0.8
    )
    joint, target, before = learner._samples(judged["left"])
    torch.testing.assert_close(target, (advantage + value[:-1]).flatten())
    torch.testing.assert_close(joint, rollout.extras["joint"][:-1].flatten(0, 1))
    torch.testing.assert_close(before, value[:-1].flatten())


def test_new_moments_change_nothing_that_the_critic_says():
    torch.manual_seed(0)
    critic, joint = CentralCritic(5, (8,), "tanh"), torch.randn(20, 5)
    for scale in (1.0, 300.0, 0.01):
        with torch.no_grad():
            before = critic(joint)
        target = scale * torch.randn(50) - 7 * scale
        critic.observe(target.mean(), target.square().mean(), decay=0.9)
        with torch.no_grad():
            torch.testing.assert_close(
                critic(joint), before, rtol=1e-3, atol=1e-3
            )  # single precision, at 300 times the size
    fresh = CentralCritic(5, (8,), "tanh")
    target = 100 + 5 * torch.randn(10_000)
    fresh.observe(target.mean(), target.square().mean(), decay=0.99)
    mean, std = fresh.moments()
    torch.testing.assert_close(mean, target.mean(), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(std, target.std(), rtol=0.02, atol=0.0)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match=r"MAPPO is for many agents: call config.use\(MultiAgent"):
        MAPPOConfig().environment("CartPole-v1").build()
    with pytest.raises(ConfigError, match="vf_loss_coeff"):
        MAPPOConfig().training(vf_loss_coeff=0.5)
    with pytest.raises(ConfigError, match="vf_clip_param"):
        MAPPOConfig().training(vf_clip_param=0.5)
    with pytest.raises(ConfigError, match="central_critic"):
        MultiAgent(policies=("central_critic",))
    with pytest.raises(TypeError, match="no value function"):
        PPOConfig().environment("CartPole-v1").rl_module(module_class=Actor).build().train()
