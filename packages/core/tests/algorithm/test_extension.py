from pathlib import Path

import numpy as np
import pytest
import torch
from two_modules import TwoModules, TwoSidesEnv

import rl_core
from rl_core import Algorithm, Policy, PPOConfig
from rl_core.errors import CheckpointError
from rl_core.testing import check_algorithm
from rl_core.testing.check_algorithm import without_clocks


def make_config(**settings):
    return (
        PPOConfig()
        .environment(TwoSidesEnv)
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=100, minibatch_size=25, num_epochs=3)
        .use(TwoModules(**settings))
    )


def test_two_modules_conform_to_what_is_asked_of_every_algorithm():
    check_algorithm(make_config())


def test_each_module_trains_with_its_own_settings_and_reports_under_its_own_name():
    algorithm = make_config(right_lr=0.0).build()
    before = {side: list(map(torch.clone, policy.module.parameters())) for side, policy in policies(algorithm)}
    result = algorithm.train()
    assert result["learner/left/lr"] == 3e-3
    assert result["learner/right/lr"] == 0.0
    for side, policy in policies(algorithm):
        changed = any(
            not torch.equal(old, new) for old, new in zip(before[side], policy.module.parameters(), strict=True)
        )
        assert changed == (side == "left")
    assert result["env_steps"] == 100, "steps of the env, not of the modules"


def policies(algorithm):
    return algorithm.env_runner.policies.items()


def test_two_modules_resume_bit_for_bit(tmp_path):
    algorithm = make_config().build()
    for _ in range(2):
        algorithm.train()
    path = algorithm.save(tmp_path / "saved")
    resumed = Algorithm.from_checkpoint(path)
    for _ in range(2):
        one, two = without_clocks(algorithm.train()), without_clocks(resumed.train())
        np.testing.assert_equal(one, two)


def test_each_policy_is_exported_by_its_id(tmp_path):
    algorithm = make_config().build()
    algorithm.train()
    path = algorithm.save(tmp_path / "saved")
    left, right = (Policy.from_checkpoint(path, side) for side in ("left", "right"))
    assert left.act(np.ones(2, np.float32))[0] in range(2)
    assert right.act(np.ones(3, np.float32))[0] in range(3)
    with pytest.raises(CheckpointError, match="no component 'policies/default'.*policies/left, policies/right"):
        Policy.from_checkpoint(path)


def test_two_modules_learn_side_by_side():
    algorithm = make_config(left_lr=0.01, right_lr=0.01).build()
    before = algorithm.evaluate(num_episodes=20)["evaluation/episode_return_mean"]
    for _ in range(15):
        algorithm.train()
    after = algorithm.evaluate(num_episodes=20)["evaluation/episode_return_mean"]
    assert before < 13 < 17 < after <= 20


def test_a_checkpoint_of_other_modules_is_refused_and_changes_nothing(tmp_path):
    path = make_config().build().save(tmp_path / "two")
    plain = PPOConfig().environment("CartPole-v1").build()
    with pytest.raises(CheckpointError, match=r"has the policies \['left', 'right'\], this run has \['default'\]"):
        plain.restore(path)


def test_core_does_not_know_the_extension():
    for file in Path(rl_core.__file__).parent.rglob("*.py"):
        text = file.read_text().lower()
        assert "twomodules" not in text, file
        assert "two_modules" not in text, file
