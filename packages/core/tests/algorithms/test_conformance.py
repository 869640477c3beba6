"""Every algorithm keeps the rules of `Algorithm`, and goes on from a checkpoint bit for bit, replay buffer included."""

import copy
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_configs import CONFIGS, LSTM, off_policy

from rl_core import (
    A2CConfig,
    Algorithm,
    APPOConfig,
    DQNConfig,
    IMPALAConfig,
    PPOConfig,
    SACConfig,
    TD3Config,
    TQCConfig,
)
from rl_core.checkpoint import Checkpoint
from rl_core.errors import CheckpointError
from rl_core.testing import check_algorithm
from rl_core.testing.check_algorithm import without_clocks
from rl_core.testing.envs import CountdownEnv


@pytest.mark.filterwarnings("ignore::UserWarning")  # check_env's notes on test envs
@pytest.mark.parametrize("name", CONFIGS)
def test_algorithm_conforms(name):
    check_algorithm(CONFIGS[name]())


@pytest.mark.parametrize("name", ["dqn rainbow", "sac box", "td3"])
def test_without_a_saved_buffer_a_restored_run_fills_it_again_before_it_learns(name, tmp_path):
    config = CONFIGS[name]()
    config.training(replay_buffer_config={"save_in_checkpoints": False}, num_steps_sampled_before_learning_starts=40)
    algorithm = config.build()
    results = [algorithm.train() for _ in range(4)]
    done = results[-1]["learner/default/num_gradient_steps"]
    assert done > 0
    resumed = Algorithm.from_checkpoint(algorithm.save(tmp_path / "saved"))
    assert torch.equal(state_of(resumed)["generator"], state_of(algorithm)["generator"])
    first, second = resumed.train(), resumed.train()
    assert first["env_steps"] == results[-1]["env_steps"] + 24
    assert first["learner/default/num_gradient_steps"] == done, "24 of 40 steps are stored"
    assert first["learner/default/replay_size"] == 24
    assert math.isnan(first["learner/default/td_error" if name != "dqn rainbow" else "learner/default/td_loss"])
    assert second["learner/default/num_gradient_steps"] > done
    assert set(first) == set(results[0])
    algorithm.stop()
    resumed.stop()


@pytest.mark.parametrize("name", CONFIGS)
def test_names_of_figures_are_there_before_learning_starts(name):
    algorithm = CONFIGS[name]().build()
    first = algorithm.train()
    for _ in range(2):
        last = algorithm.train()
    algorithm.stop()
    assert set(first) == set(last)
    figures = {key: value for key, value in last.items() if key.startswith("learner/")}
    assert len(figures) > 5
    assert not any(math.isnan(value) for value in figures.values())


def state_of(algorithm):
    return algorithm.learner.learners["default"].get_state()


@pytest.mark.parametrize("name", ["dqn rainbow", "dqn recurrent, prioritised", "sac discrete", "td3"])
def test_checkpoint_holds_buffer_priorities_targets_and_exploration(name, tmp_path):
    algorithm = CONFIGS[name]().build()
    for _ in range(5):
        algorithm.train()
    resumed = Algorithm.from_checkpoint(algorithm.save(tmp_path / "saved"))
    np.testing.assert_equal(*(_plain(state_of(one)) for one in (algorithm, resumed)))
    saved = state_of(algorithm)
    prioritised = algorithm.config.training.replay_buffer_config.type == "prioritized"
    assert ("leaves" in saved["buffer"]) == prioritised
    assert saved["targets"].keys() == set(algorithm.config.objective.targets)
    acting = (_plain(dict(one.policy.module.state_dict())) for one in (algorithm, resumed))
    np.testing.assert_equal(*acting)
    for _ in range(3):
        np.testing.assert_equal(without_clocks(algorithm.train()), without_clocks(resumed.train()))
    np.testing.assert_equal(*(_plain(state_of(one)) for one in (algorithm, resumed)))


def _plain(tree):
    if isinstance(tree, torch.Tensor):
        return tree.numpy()
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    return [_plain(value) for value in tree] if isinstance(tree, list | tuple) else tree


def test_epsilon_follows_its_schedule_and_comes_back_with_a_checkpoint(tmp_path):
    algorithm = CONFIGS["dqn plain"]().build()
    assert float(algorithm.policy.module.epsilon) == 1.0
    algorithm.train()
    assert float(algorithm.policy.module.epsilon) == pytest.approx(1 - 0.9 * 24 / 100)
    resumed = Algorithm.from_checkpoint(algorithm.save(tmp_path / "saved"))
    assert float(resumed.policy.module.epsilon) == float(algorithm.policy.module.epsilon)
    for _ in range(4):
        algorithm.train()
    assert float(algorithm.policy.module.epsilon) == pytest.approx(0.1)


def test_td3_acts_at_random_until_it_learns_and_with_noise_from_then_on():
    config = CONFIGS["td3"]().training(exploration_noise=0.25, num_steps_sampled_before_learning_starts=30)
    algorithm = config.build()
    assert algorithm.policy.module.exploration.tolist() == [0.25, 1.0]
    algorithm.train()
    assert algorithm.policy.module.exploration.tolist() == [0.25, 1.0]
    algorithm.train()
    assert algorithm.policy.module.exploration.tolist() == [0.25, 0.0]


@pytest.mark.parametrize(
    ("name", "parts"), [("sac box", {"critic", "log_alpha"}), ("td3", {"critic"}), ("tqc", {"critic", "log_alpha"})]
)
def test_published_policies_go_without_critics_which_the_checkpoint_keeps(name, parts, tmp_path):
    algorithm = CONFIGS[name]().build()
    for _ in range(2):
        algorithm.train()
    published = algorithm.learner.weights().tensors
    for tensors in (published, algorithm.policy.module.state_dict()):
        assert not {key.split(".")[0] for key in tensors} & parts
    checkpoint = Checkpoint(algorithm.save(tmp_path / "saved"))
    policy, learner = checkpoint.load("policies/default"), checkpoint.load("learners/default")
    assert policy["tensors"].keys() == published.keys()
    assert {key.split(".")[0] for key in learner["learner_only"]} == parts
    module = algorithm.learner.module
    assert module.state_dict().keys() == policy["tensors"].keys() | learner["learner_only"].keys()
    resumed = Algorithm.from_checkpoint(checkpoint.path)
    for key, tensor in resumed.learner.module.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[key]), key


def test_action_kinds_that_algorithms_promise_are_those_they_build():
    box = spaces.Box(-1.0, 1.0, (2,), np.float32)
    for config, kinds in {
        DQNConfig: {"Discrete"},
        SACConfig: {"Box", "Discrete"},
        TD3Config: {"Box"},
        TQCConfig: {"Box"},
        A2CConfig: set(PPOConfig.action_spaces),
        APPOConfig: set(PPOConfig.action_spaces),
        IMPALAConfig: set(PPOConfig.action_spaces),
    }.items():
        assert set(config.action_spaces) == kinds
        for space in (box, spaces.Discrete(3)):
            if type(space).__name__ in kinds:
                config().module_spec().build(box, space, seed=0)


def test_vector_slots_that_end_at_different_times_train_recurrent_dqn_without_nan():
    # Episodes of 3 steps are shorter than the burn-in: those sequences hold nothing to learn from.
    config = off_policy(DQNConfig(), CountdownEnv, model=LSTM, burn_in_len=6, train_batch_size_per_learner=4)
    config.environment(env_config={"length": 3})
    algorithm = config.build()
    for _ in range(4):
        result = algorithm.train()
    assert result["learner/default/num_gradient_steps"] > 0
    assert result["learner/default/td_loss"] == 0


@pytest.mark.parametrize("name", ["dqn rainbow", "dqn recurrent, prioritised", "sac box", "td3", "tqc"])
@pytest.mark.parametrize("precision", ["bfloat16-true", "float16-true", "bfloat16-mixed", "float16-mixed"])
def test_off_policy_algorithms_learn_in_half_precision(name, precision):
    algorithm = CONFIGS[name]().training(precision=precision).build()
    before = copy.deepcopy(algorithm.learner.module.state_dict())
    for _ in range(
        3 if precision.startswith("bfloat16") else 8
    ):  # float16 leaves out steps until losses are scaled right
        algorithm.train()
    after = algorithm.learner.module.state_dict()
    algorithm.stop()
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert any(not torch.equal(before[key], tensor) for key, tensor in after.items())


def test_without_a_saved_buffer_the_one_that_is_there_stays(tmp_path):
    def make(env="CartPole-v1"):
        return off_policy(DQNConfig(), env, replay_buffer_config={"save_in_checkpoints": False}).build()

    algorithm, other = make(), make("Acrobot-v1")
    for _ in range(3):
        algorithm.train()
    other.train()
    before = state_of(algorithm)
    assert "buffer" not in before
    size = len(algorithm.learner.buffer)
    with pytest.raises(CheckpointError, match="another env"):
        algorithm.restore(other.save(tmp_path / "other"))
    assert len(algorithm.learner.buffer) == size
    assert state_of(algorithm)["num_stored"] == before["num_stored"]
    algorithm.train()
    algorithm.restore(algorithm.save(tmp_path / "own"))
    assert algorithm.train()["learner/default/replay_size"] >= size


def test_a_buffer_begins_anew_where_rollouts_have_another_number_of_slots(tmp_path):
    first = CONFIGS["sac box"]().build()
    for _ in range(3):
        first.train()
    second = CONFIGS["sac box"]().env_runners(num_envs_per_env_runner=3).build()
    second.restore(first.save(tmp_path / "saved"))
    with pytest.warns(UserWarning, match="have 3 env slots now instead of 2, .* anew, without its 70 transitions"):
        result = second.train()
    assert result["learner/default/replay_size"] == result["env_steps"] - first.env_steps
    for _ in range(2):
        result = second.train()
    assert result["learner/default/num_gradient_steps"] > state_of(first)["num_gradient_steps"]
