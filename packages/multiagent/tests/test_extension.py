import copy
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from naming_env import OWN, NamingEnv, make_config, parameters
from scheduled_env import ScheduledEnv

from rl_core import Algorithm, APPOConfig, DQNConfig, IMPALAConfig, LearnerConnector, Policy, PPOConfig
from rl_core.errors import ConfigError
from rl_core.testing import check_algorithm
from rl_core.testing.check_algorithm import without_clocks
from rl_multiagent import MultiAgent, PolicySpec
from rl_multiagent.selfplay import UniformRandom


def one_or_two(agent, episode):
    return "two" if episode.rng.random() < 0.5 else "one"


def plain(state):
    """Turn the tensors of a runner's state into arrays."""
    if isinstance(state, dict):
        return {key: plain(part) for key, part in state.items()}
    if isinstance(state, list | tuple):
        return [plain(part) for part in state]
    return state.numpy() if isinstance(state, torch.Tensor) else state


def always_one(agent, episode):
    return "one"


@pytest.mark.parametrize(
    ("extension", "env_config"),
    [
        (OWN, {}),
        (MultiAgent(), {"alike": True}),
        (MultiAgent(policies=("one", "two"), policy_mapping_fn=one_or_two), {"alike": True}),
    ],
    ids=["own", "shared", "drawn"],
)
def test_runs_conform_to_what_is_asked_of_every_algorithm(extension, env_config):
    check_algorithm(make_config(extension, **env_config))


@pytest.mark.parametrize("algorithm", [PPOConfig, IMPALAConfig, APPOConfig])
@pytest.mark.parametrize("memory", [False, True])
def test_agents_that_come_and_go_resume_bit_for_bit(tmp_path, memory, algorithm):
    config = make_config(MultiAgent(), ScheduledEnv, algorithm, num_agents=3, turn_based=True, accounts=False)
    config.reporting(min_sample_timesteps_per_iteration=100)
    config.rl_module(model_config={"use_lstm": memory, "lstm_cell_size": 4, "fcnet_hiddens": (4,)})
    algorithm = config.environment(disable_env_checking=True).build()
    for _ in range(2):
        algorithm.train()
    assert algorithm.env_runner._slots["default"].open.any(), "somebody waits for a turn"
    resumed = Algorithm.from_checkpoint(algorithm.save(tmp_path / "saved"))
    for _ in range(3):
        np.testing.assert_equal(without_clocks(algorithm.train()), without_clocks(resumed.train()))


def test_each_agent_learns_with_spaces_and_policy_of_its_own():
    algorithm = make_config().build()
    before = algorithm.evaluate(num_episodes=20)["evaluation/episode_return_mean"]
    for _ in range(15):
        result = algorithm.train()
    after = algorithm.evaluate(num_episodes=20)
    assert before < 13 < 17 < after["evaluation/episode_return_mean"] <= 20
    agents = [after[f"evaluation/agent_episode_return_mean/{agent}"] for agent in ("left", "right")]
    assert sum(agents) == pytest.approx(after["evaluation/episode_return_mean"])
    assert agents[0] == after["evaluation/policy_episode_return_mean/left"]
    assert result["env_runners/agent_episode_return_mean/left"] > 5


def test_different_algorithms_meet_in_one_env():
    settings = {"training.num_steps_sampled_before_learning_starts": 100, "training.lr": 1e-2}
    left = PolicySpec(algorithm=DQNConfig, settings={**settings, "rl_module.model_config.fcnet_hiddens": [16]})
    algorithm = make_config(MultiAgent(policies={"left": left, "right": PolicySpec()})).build()
    for _ in range(20):
        result = algorithm.train()
    figures = algorithm.evaluate(num_episodes=20, explore=False)
    assert figures["evaluation/agent_episode_return_mean/left"] > 8
    assert figures["evaluation/agent_episode_return_mean/right"] > 8
    assert "learner/left/q_mean" in result
    assert "learner/right/policy_loss" in result


def test_settings_and_training_are_each_policys_own():
    extension = MultiAgent(
        policies={"left": PolicySpec(settings={"training.lr": 1e-4}), "right": PolicySpec()},
        policies_to_train=("left",),
    )
    algorithm = make_config(extension).build()
    before = {name: parameters(policy) for name, policy in algorithm.env_runner.policies.items()}
    result = algorithm.train()
    assert result["learner/left/lr"] == 1e-4
    assert not any(name.startswith("learner/right") for name in result)
    after = {name: parameters(policy) for name, policy in algorithm.env_runner.policies.items()}
    assert not torch.equal(before["left"], after["left"])
    assert torch.equal(before["right"], after["right"])


def test_a_wrong_setting_of_a_policy_names_the_policy():
    extension = MultiAgent(policies={"left": PolicySpec(), "right": PolicySpec(settings={"training.lrr": 1e-4})})
    with pytest.raises(ConfigError, match=r"PolicySpec of 'right': training: there is no setting 'lrr'\. Did you mean"):
        make_config(extension).build()


def test_policies_are_exported_alone(tmp_path):
    algorithm = make_config().build()
    path = algorithm.save(tmp_path / "saved")
    assert Policy.from_checkpoint(path, "left").act(np.ones(2, np.float32))[0] in range(2)
    assert Policy.from_checkpoint(path, "right").act(np.ones(3, np.float32))[0] in range(3)


@pytest.mark.parametrize(
    ("extension", "env_config", "words"),
    [
        (MultiAgent(policies=("left", "up")), {}, "'right' is mapped to 'right', which is no policy.*left, up"),
        (MultiAgent(), {}, "'default' is to play agents 'left' and 'right', whose spaces differ"),
        (MultiAgent(policy_mapping_fn={"left": "default", "middle": "default"}), {}, "no agent 'middle'"),
        (MultiAgent(policies=("a", "b"), policy_mapping_fn={"left": "a", "right": "a"}), {"alike": True}, "no agent"),
        (
            MultiAgent(policies=("one",), policy_mapping_fn=always_one),
            {},
            r"not known.*PolicySpec\(like='left'\)",
        ),
        (MultiAgent(policies=("a", "b"), policy_mapping_fn=always_one), {"alike": True}, "'left'.*'one' in episode 0"),
        (
            MultiAgent(policies={"one": PolicySpec(like="left")}, policy_mapping_fn=always_one),
            {},
            "'right' is mapped to 'one', which was made for agents with other spaces",
        ),
        (MultiAgent(policies={"one": PolicySpec(like="up")}), {"alike": True}, "no such agent"),
    ],
)
def test_wrong_mappings_are_refused_by_name(extension, env_config, words):
    with pytest.raises(ConfigError, match=words):
        make_config(extension, **env_config).build().train()


def test_wrong_names_are_refused_when_written():
    with pytest.raises(ConfigError, match="policies_to_train names 'up', but there are only left"):
        MultiAgent(policies=("left",), policies_to_train=("up",))
    with pytest.raises(ConfigError, match="policies is empty"):
        MultiAgent(policies=())
    with pytest.raises(ConfigError, match="expected a PolicySpec"):
        MultiAgent(policies={"left": 3})


def test_drawn_policies_are_the_same_in_every_run_and_differ_between_episodes():
    extension = MultiAgent(policies=("one", "two"), policy_mapping_fn=one_or_two)
    owners = []
    for _ in range(2):
        algorithm = make_config(extension, alike=True).build()
        algorithm.train()
        owners.append(algorithm.env_runner._owner.copy())
        assert len({tuple(algorithm.env_runner.mapper.assign(0, number)) for number in range(20)}) > 1
    np.testing.assert_equal(*owners)


def test_a_saved_state_does_not_change_while_the_run_goes_on():
    config = make_config(MultiAgent(), ScheduledEnv, num_agents=3, turn_based=True, accounts=False)
    algorithm = config.environment(disable_env_checking=True).build()
    algorithm.train()
    saved = algorithm.env_runner.get_state()
    before = copy.deepcopy(saved)
    algorithm.train()
    np.testing.assert_equal(plain(saved), plain(before))


class NamesOne(UniformRandom):
    """Names the number it was told, for sure."""

    def __init__(self, observation_space, action_space, *, number):
        super().__init__(observation_space, action_space)
        self.number = number

    def forward_policy(self, obs, state=()):
        logits, state = super().forward_policy(obs, state)
        logits[..., self.number] = 1e9
        return logits, state


def test_a_policy_with_a_module_of_its_own_has_the_settings_of_that_module():
    fixed = PolicySpec(module_class=NamesOne, settings={"rl_module.model_config": {"number": 1}})
    algorithm = make_config(MultiAgent(policies={"left": PolicySpec(), "right": fixed})).build()
    policy = algorithm.env_runner.policies["right"]
    assert {policy.act(np.zeros(3, np.float32))[0] for _ in range(20)} == {1}
    algorithm.stop()


class PairEnv(NamingEnv):
    """Observations are the number itself and the time."""

    def __init__(self, **settings):
        super().__init__(**settings)
        clock = spaces.Box(0, self.rounds, (1,))
        self.observation_spaces = {
            agent: spaces.Dict({"number": spaces.Discrete(size), "time": clock}) for agent, size in self.sizes.items()
        }

    def _obs(self):
        super()._obs()
        clock = np.array([self.time], np.float32)
        return {agent: {"number": target, "time": clock} for agent, target in self.targets.items()}


@dataclass(frozen=True)
class FitsItsSpace(LearnerConnector):
    """Reports whether the observations are of the shape that it was told."""

    shape: tuple[int, ...] | None = field(default=None, init=False)

    def bind(self, observation_space, action_space):
        bound = replace(self)
        object.__setattr__(bound, "shape", observation_space.shape)
        return bound

    def __call__(self, state, rollout):
        return state, rollout, {"fits": float(tuple(rollout.obs.shape[2:]) == self.shape)}


def test_learner_connectors_are_bound_to_what_modules_get():
    result = make_config(env=PairEnv).learners(learner_connector=(FitsItsSpace(),)).build().train()
    assert [result[f"learner/{name}/FitsItsSpace/fits"] for name in ("left", "right")] == [1.0, 1.0]
