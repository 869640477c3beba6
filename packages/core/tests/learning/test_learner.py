import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_core import Learner, ModelSettings, Rollout
from rl_core.algorithms.ppo import OBJECTIVE, PPOSettings, adapt, prepare
from rl_core.config.settings import LearnerSettings
from rl_core.errors import CheckpointError, NonFiniteError
from rl_core.learning.learner import to_device
from rl_core.learning.optimizer import optimizer_factory
from rl_core.module.actor_critic import ActorCritic
from rl_core.tree import tree_leaves

OBS, ACTION = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2)
FLAT_COLUMNS = (
    "obs",
    "action",
    "behavior_log_prob",
    "behavior_dist_inputs",
    "behavior_value",
    "advantage",
    "value_target",
)
SETTINGS = PPOSettings(train_batch_size_per_learner=64, minibatch_size=16, num_epochs=2, lr=1e-2)


def make_module(seed=0):
    torch.manual_seed(seed)
    return ActorCritic(OBS, ACTION, ModelSettings(fcnet_hiddens=(8,)))


def make_learner(module=None, *, objective=OBJECTIVE, seed=0, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    make_optimizer = optimizer_factory(LearnerSettings(), settings)
    module = module or make_module()
    return Learner(module, settings, objective, make_optimizer=make_optimizer, seed=seed, name="default")


def make_rollout(seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator}
    columns = {
        "obs": torch.rand(17, 4, 3, **draw),
        "action": torch.randint(2, (16, 4), **draw),
        "reward": torch.randn(16, 4, **draw),
        "terminated": torch.rand(16, 4, **draw) < 0.1,
        "truncated": torch.rand(16, 4, **draw) < 0.1,
        "valid": None,
        "final_index": torch.tensor([3, 40]),
        "final_obs": torch.rand(2, 3, **draw),
        "behavior_dist_inputs": torch.zeros(16, 4, 2),
        "policy_version": 0,
    }
    columns |= changes
    valid = columns["valid"]
    return Rollout(**columns, env_steps=64 if valid is None else int(valid.sum()))


def parameters(learner):
    return torch.cat([parameter.detach().flatten() for parameter in learner.module.parameters()]).clone()


def test_update_changes_the_weights_and_reports_under_the_learners_name():
    learner = make_learner()
    before = parameters(learner)
    metrics = learner.update(make_rollout())
    assert not torch.equal(before, parameters(learner))
    assert all(key.startswith("learner/default/") for key in metrics)
    names = "policy_loss value_loss entropy kl clip_fraction explained_variance grad_norm lr total_loss num_minibatches"
    assert {f"learner/default/{name}" for name in names.split()} <= set(metrics)
    assert metrics["learner/default/num_minibatches"] == 8
    assert all(type(value) is float for value in metrics.values())


def test_same_seed_and_data_give_the_same_weights_bit_for_bit():
    first, second, other = make_learner(), make_learner(), make_learner(seed=1)
    results = [[learner.update(make_rollout(step)) for step in range(3)] for learner in (first, second, other)]
    assert results[0] == results[1]
    assert torch.equal(parameters(first), parameters(second))
    assert not torch.equal(parameters(first), parameters(other))


def test_an_update_equals_ppo_written_plainly_with_torch_adam():
    learner = make_learner(num_epochs=1, minibatch_size=64, grad_clip=0.5, entropy_coeff=0.01, vf_clip_param=0.3)
    rollout, module = make_rollout(), make_module()
    batch, _ = prepare(module, rollout, learner.settings)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2, eps=1e-5)
    logits, value = module.forward_policy(batch.obs)[0], module.forward_value(batch.obs)
    distribution = torch.distributions.Categorical(logits=logits)
    ratio = (distribution.log_prob(batch.action) - batch.behavior_log_prob).exp()
    advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
    policy_loss = -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    clipped = batch.behavior_value + (value - batch.behavior_value).clamp(-0.3, 0.3)
    value_loss = torch.max((value - batch.value_target) ** 2, (clipped - batch.value_target) ** 2).mean()
    total = policy_loss + 0.5 * value_loss - 0.01 * distribution.entropy().mean()
    total.backward()
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
    optimizer.step()
    metrics = learner.update(rollout)
    assert metrics["learner/default/grad_norm"] == pytest.approx(float(norm), rel=1e-5)
    assert metrics["learner/default/total_loss"] == pytest.approx(total.item(), rel=1e-5)
    for mine, plain in zip(learner.module.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-5)


def test_prepare_takes_the_value_of_the_true_final_observation():
    module, rollout = make_module(), make_rollout(truncated=torch.zeros(16, 4, dtype=torch.bool))
    rollout.truncated.view(-1)[3] = True
    rollout.terminated.view(-1)[3] = False
    settings = dataclasses.replace(SETTINGS, lambda_=0.0)
    batch, _ = prepare(module, rollout, settings)
    value = module.forward_value(rollout.obs[0, 3])
    final_value = module.forward_value(rollout.final_obs[0])
    expected = rollout.reward[0, 3] + settings.gamma * final_value - value
    torch.testing.assert_close(batch.advantage[3], expected.detach())


def test_prepare_leaves_out_steps_that_are_not_valid():
    valid = torch.rand(16, 4, generator=torch.Generator().manual_seed(1)) < 0.7
    rollout = make_rollout(valid=valid)
    full, _ = prepare(make_module(), make_rollout(), SETTINGS)
    batch, _ = prepare(make_module(), rollout, SETTINGS)
    keep = valid.flatten()
    assert rollout.env_steps == len(batch.advantage) == int(keep.sum())
    for name in FLAT_COLUMNS:
        assert torch.equal(getattr(batch, name), getattr(full, name)[keep]), name
    assert (batch.state, batch.segments, batch.real) == ((), None, None)


def test_learning_rate_and_entropy_coefficient_follow_their_schedules_over_env_steps():
    learner = make_learner(lr=((0.0, 0.01), (128.0, 0.0)), entropy_coeff=((0.0, 1.0), (64.0, 0.0)))
    rates, gaps = [], []
    for step in range(3):
        metrics = {key.split("/")[-1]: value for key, value in learner.update(make_rollout(step)).items()}
        rates.append(metrics["lr"])
        gaps.append(metrics["policy_loss"] + 0.5 * metrics["value_loss"] - metrics["total_loss"])
    assert rates == pytest.approx([0.01, 0.005, 0.0])
    assert gaps[0] == pytest.approx(math.log(2), rel=0.05)
    assert gaps[1:] == pytest.approx([0.0, 0.0], abs=1e-5)
    before = parameters(learner)
    learner.update(make_rollout(9))
    assert torch.equal(before, parameters(learner)), "a learning rate of 0 changes nothing"


def test_target_kl_stops_the_epochs_of_an_update():
    free = make_learner(lr=0.5, num_epochs=5).update(make_rollout())
    stopped = make_learner(lr=0.5, num_epochs=5, target_kl=1e-3).update(make_rollout())
    assert free["learner/default/num_minibatches"] == 20
    assert free["learner/default/stopped_early"] == 0.0
    assert 0 < stopped["learner/default/num_minibatches"] < 20
    assert stopped["learner/default/stopped_early"] == 1.0


def test_kl_weight_doubles_above_and_halves_below_its_target():
    settings = dataclasses.replace(SETTINGS, kl_coeff=0.2, kl_target=0.01)
    assert adapt(settings, {"kl": 0.016}).kl_coeff == 0.4
    assert adapt(settings, {"kl": 0.006}).kl_coeff == 0.1
    assert adapt(settings, {"kl": 0.01}).kl_coeff == 0.2
    assert adapt(SETTINGS, {"kl": 1.0}).kl_coeff == 0.0


def test_kl_penalty_holds_the_policy_back():
    rollout = make_rollout()
    kls = [
        make_learner(kl_coeff=weight, num_epochs=5).update(rollout)["learner/default/kl"]
        for weight in (0.0, 1e-3, 50.0)
    ]
    assert kls[2] < kls[0] / 3
    assert kls[1] == pytest.approx(kls[0], rel=0.2), "the two estimates of the KL agree"


@pytest.mark.parametrize("column", ["reward", "obs"])
def test_numbers_that_are_not_finite_raise_and_keep_the_last_good_weights(column):
    learner = make_learner()
    learner.update(make_rollout())
    before, state = parameters(learner), copy.deepcopy(learner.get_state())
    rollout = make_rollout(1)
    getattr(rollout, column)[2, 1] = torch.nan
    with pytest.raises(NonFiniteError) as error:
        learner.update(rollout)
    assert torch.isfinite(parameters(learner)).all()
    assert torch.equal(before, parameters(learner)), "the first minibatch already fails: normalisation spreads the NaN"
    assert learner.version == state["version"]
    message = str(error.value)
    assert "the step was not taken" in message
    (line,) = [line for line in message.splitlines() if line.startswith("  advantage:")]
    assert "shape" in line
    assert not line.endswith(" 0 not finite")


def test_the_learner_goes_on_after_numbers_that_were_not_finite():
    learner = make_learner()
    with pytest.raises(NonFiniteError):
        learner.update(make_rollout(reward=torch.full((16, 4), torch.inf)))
    metrics = learner.update(make_rollout())
    assert all(math.isfinite(value) for value in metrics.values())


def test_state_round_trip_continues_bit_for_bit_including_the_adaptive_kl_weight():
    changes = {"kl_coeff": 0.2, "kl_target": 1e-6}
    learner = make_learner(**changes)
    learner.update(make_rollout(0))
    assert learner.settings.kl_coeff == 0.4
    twin = make_learner(seed=5, **changes)
    twin.module.load_state_dict(copy.deepcopy(learner.module.state_dict()))
    twin.set_state(copy.deepcopy(learner.get_state()))
    assert twin.settings.kl_coeff == 0.4
    assert [twin.update(make_rollout(step)) for step in (1, 2)] == [
        learner.update(make_rollout(step)) for step in (1, 2)
    ]
    assert torch.equal(parameters(learner), parameters(twin))


def test_state_of_another_module_is_refused_and_changes_nothing():
    learner = make_learner()
    other = make_learner(ActorCritic(OBS, ACTION, ModelSettings(fcnet_hiddens=(5,))), seed=3)
    other.update(make_rollout())
    before = copy.deepcopy(learner.get_state())
    with pytest.raises(CheckpointError, match="Optimiser state"):
        learner.set_state(other.get_state())
    after = learner.get_state()
    assert before["version"] == after["version"] == 0
    assert torch.equal(before["generator"], after["generator"])


def test_weights_carry_the_version_and_age_is_reported():
    learner = make_learner()
    assert learner.weights().version == 0
    learner.update(make_rollout())
    assert learner.weights().version == 1
    assert learner.update(make_rollout(policy_version=0))["learner/default/policy_age"] == 1.0
    assert set(learner.weights().tensors) == set(learner.module.state_dict())


def test_a_rollout_is_left_as_it_was():
    rollout = make_rollout()
    before = copy.deepcopy(rollout)
    make_learner().update(rollout)
    for field in dataclasses.fields(rollout):
        for old, new in zip(
            tree_leaves(getattr(before, field.name)), tree_leaves(getattr(rollout, field.name)), strict=True
        ):
            assert torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new


def test_to_device_moves_every_tensor_of_a_rollout():
    nested = {"a": torch.zeros(17, 4), "b": (torch.zeros(17, 4, dtype=torch.uint8),)}
    rollout = make_rollout(
        obs=nested,
        valid=torch.ones(16, 4, dtype=torch.bool),
        state=(torch.zeros(17, 4, 2),),
        final_state=(torch.zeros(2, 2),),
        extras={"x": torch.ones(16, 4), "y": 3},
    )
    moved = to_device(rollout, torch.device("meta"))  # a device every torch has; it keeps shapes only
    num_tensors = 0
    for field in dataclasses.fields(moved):
        old, new = getattr(rollout, field.name), getattr(moved, field.name)
        for before, after in zip(
            tree_leaves(dict(old) if field.name == "extras" else old), tree_leaves(new), strict=True
        ):
            if isinstance(before, torch.Tensor):
                num_tensors += 1
                assert after.device.type == "meta", field.name
                assert (after.shape, after.dtype) == (before.shape, before.dtype)
            else:
                assert after == before
    assert num_tensors == 13
    assert moved.policy_version == rollout.policy_version
    assert rollout.reward.device.type == "cpu"


def test_an_update_moves_the_rollout_to_where_the_module_is(monkeypatch):
    seen = []

    def watched(module, rollout, settings):
        seen.append((rollout.reward.device.type, rollout.obs.device.type))
        raise RuntimeError("seen enough")

    learner = make_learner(objective=dataclasses.replace(OBJECTIVE, prepare=watched))
    with pytest.raises(RuntimeError, match="seen enough"):
        learner.update(make_rollout())
    learner.optimizer.parameters[0] = torch.zeros(1, device="meta")  # the learner follows its tensors
    with pytest.raises(RuntimeError, match="seen enough"):
        learner.update(make_rollout())
    assert seen == [("cpu", "cpu"), ("meta", "meta")]
