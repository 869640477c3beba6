import dataclasses

import pytest
import torch
from recurrent import MODES, SPECS, GatedModule, make_recurrent_runner

from rl_core import Learner, PPOConfig
from rl_core.algorithms.ppo import OBJECTIVE, PPOSettings, loss, prepare
from rl_core.config.settings import LearnerSettings
from rl_core.learning.minibatch import minibatches
from rl_core.learning.optimizer import optimizer_factory
from rl_core.testing import check_algorithm
from rl_core.testing.envs import ObservationIsTimeEnv
from rl_core.tree import tree_map

SETTINGS = PPOSettings(train_batch_size_per_learner=33, minibatch_size=10, num_epochs=1)
EXACT = {"rtol": 1e-4, "atol": 1e-5}


def sampled(name, mode):
    """A module and its second rollout, which begins in the middle of episodes."""
    runner = make_recurrent_runner(ObservationIsTimeEnv, SPECS[name], mode)
    runner.sample()
    return runner.policy.module, runner.sample()


def parts_of(module, rollout, settings=SETTINGS):
    batch, _ = prepare(module, rollout, settings)
    generator = torch.Generator().manual_seed(0)
    size, num_epochs = settings.minibatch_size, settings.num_epochs
    return batch, list(minibatches(batch, size=size, num_epochs=num_epochs, generator=generator))


def outputs(module, part):
    dist_inputs, value = module.forward_train(part.obs, part.state)
    return dist_inputs.flatten(0, 1)[part.real], value.flatten()[part.real]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SPECS)
def test_segments_give_the_log_probs_and_values_of_acting(name, mode):
    module, rollout = sampled(name, mode)
    _, parts = parts_of(module, rollout)
    assert sum(len(part.advantage) for part in parts) == rollout.env_steps
    assert max(len(part.obs) for part in parts) == 4, "max_seq_len of the module"
    for part in parts:
        dist_inputs, value = outputs(module, part)
        torch.testing.assert_close(dist_inputs, part.behavior_dist_inputs, **EXACT)
        log_prob = module.distribution.log_prob(dist_inputs, part.action)
        ratio = (log_prob - part.behavior_log_prob).exp()
        torch.testing.assert_close(ratio, torch.ones_like(ratio), **EXACT)
        torch.testing.assert_close(value, part.behavior_value, **EXACT)


@pytest.mark.parametrize("name", SPECS)
def test_without_the_recorded_states_the_log_probs_would_differ(name):
    module, rollout = sampled(name, MODES[0])
    _, parts = parts_of(module, rollout)
    worst = 0.0
    for part in parts:
        forgotten = module.initial_state(part.obs.shape[1])
        dist_inputs, _ = outputs(module, dataclasses.replace(part, state=forgotten))
        worst = max(worst, float((dist_inputs - part.behavior_dist_inputs).abs().max()))
    assert worst > 1e-3


@pytest.mark.parametrize("name", ["own", "lstm", "attention"])
def test_the_loss_of_the_first_minibatch_sees_no_change_of_policy(name):
    module, rollout = sampled(name, MODES[1])
    _, parts = parts_of(module, rollout)
    _, report = loss(module, parts[0], dataclasses.replace(SETTINGS, kl_coeff=0.1))
    assert float(report["kl"]) == pytest.approx(0.0, abs=1e-6)
    assert float(report["clip_fraction"]) == 0.0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["own", "lstm apart"])
def test_advantages_come_from_values_with_the_memory_at_each_observation(name, mode):
    """With lambda 0, by hand: each step's own state, and that after the last step for a true final observation."""
    module, rollout = sampled(name, mode)
    batch, _ = prepare(module, rollout, dataclasses.replace(SETTINGS, lambda_=0.0))
    places = {int(index): place for place, index in enumerate(rollout.final_index)}

    def value(obs, state, *at):
        row = tree_map(lambda leaf: leaf[at].unsqueeze(0), state)
        return module.forward_value(obs[at].unsqueeze(0), row).item()

    num_cut = 0
    for time in range(11):
        for slot in range(3):
            if rollout.valid is not None and not rollout.valid[time, slot]:
                continue
            place = places.get(time * 3 + slot)
            if place is None:
                following = value(rollout.obs, rollout.state, time + 1, slot)
            else:
                following = value(rollout.final_obs, rollout.final_state, place)
            if rollout.terminated[time, slot]:
                following = 0.0
            now = value(rollout.obs, rollout.state, time, slot)
            expected = float(rollout.reward[time, slot]) + 0.99 * following - now
            assert batch.advantage[time * 3 + slot].item() == pytest.approx(expected, abs=1e-4)
            assert batch.behavior_value[time * 3 + slot].item() == pytest.approx(now, abs=1e-5)
            num_cut += bool(rollout.truncated[time, slot])
    assert num_cut > 1


def test_explained_variance_is_of_real_steps_only():
    module, rollout = sampled("own", MODES[1])
    assert rollout.valid is not None
    batch, figures = prepare(module, rollout, SETTINGS)
    keep = rollout.valid.flatten()
    value, target = batch.behavior_value[keep], batch.value_target[keep]
    expected = 1 - (target - value).var(correction=0) / target.var(correction=0)
    assert figures["explained_variance"] == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("name", ["own", "lstm apart", "gru"])
def test_one_update_is_one_adam_step_on_the_plain_loss_of_all_segments(name):
    runner = make_recurrent_runner(ObservationIsTimeEnv, SPECS[name], MODES[1])
    rollout = runner.sample()
    module = runner.policy.module.requires_grad_(True)
    before = {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
    settings = dataclasses.replace(SETTINGS, minibatch_size=33, grad_clip=None, lr=1e-2)
    batch, _ = prepare(module, rollout, settings)

    # Step by step: every slot from the beginning of the rollout, with states cut off where segments begin.
    begins = {int(segment[0]) for segment in batch.segments}
    total, count = 0.0, int(rollout.valid.sum())
    mean, std = batch.advantage[rollout.valid.flatten()].mean(), batch.advantage[rollout.valid.flatten()].std()
    for slot in range(3):
        state = ()
        for time in range(11):
            index = time * 3 + slot
            if not rollout.valid[time, slot]:
                continue
            if index in begins:
                state = tree_map(lambda leaf, t=time, s=slot: leaf[t, s : s + 1].clone(), rollout.state)
            obs = rollout.obs[time, slot : slot + 1].clone()
            value = module.forward_value(obs, state)
            dist_inputs, state = module.forward_policy(obs, state)
            log_prob = module.distribution.log_prob(dist_inputs, rollout.action[time, slot : slot + 1].clone())
            ratio = (log_prob - batch.behavior_log_prob[index]).exp()
            advantage = (batch.advantage[index] - mean) / (std + 1e-8)
            surrogate = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            total = total - surrogate + 0.5 * (value - batch.value_target[index]) ** 2
    (total / count).sum().backward()
    expected = {key: parameter.grad.clone() for key, parameter in module.named_parameters()}
    module.zero_grad()

    module.load_state_dict(before)
    learner = Learner(
        module,
        settings,
        OBJECTIVE,
        make_optimizer=optimizer_factory(LearnerSettings(), settings),
        seed=0,
        name="default",
    )
    metrics = learner.update(rollout)
    assert metrics["learner/default/num_minibatches"] == 1
    assert metrics["learner/default/total_loss"] == pytest.approx((total / count).item(), rel=1e-4, abs=1e-5)
    for key, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key], rtol=1e-3, atol=1e-5, msg=key)


def make_config(**model):
    config = (
        PPOConfig()
        .environment(ObservationIsTimeEnv)
        .env_runners(num_envs_per_env_runner=3)
        .training(train_batch_size_per_learner=60, minibatch_size=16, num_epochs=2)
        .evaluation(evaluation_duration=3)
    )
    return config.rl_module(model_config={"fcnet_hiddens": [6], "lstm_cell_size": 6, "max_seq_len": 5, **model})


MODELS = {
    "lstm": {"use_lstm": True},
    "lstm apart": {"use_lstm": True, "vf_share_layers": False},
    "gru": {"use_gru": True},
    "attention": {"use_attention": True, "attention_dim": 8, "attention_window": 4},
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_ppo_with_a_memory_conforms(model):
    check_algorithm(make_config(**model))


def test_ppo_with_a_recurrent_module_of_ones_own_conforms():
    check_algorithm(make_config().rl_module(module_class=GatedModule, model_config={"size": 5}))
