"""Gradients in pieces and in half precision."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from rl_core import PPOConfig, SACConfig
from rl_core.errors import ConfigError, NonFiniteError
from rl_core.learning.backward import FIRST_SCALE, GROWTH_INTERVAL, Backward
from rl_core.learning.minibatch import minibatches, pieces_of
from rl_core.learning.optimizer import FlatAdam
from rl_core.tree import tree_leaves, tree_map

HALVES = ["bfloat16-mixed", "float16-mixed", "bfloat16-true", "float16-true"]


def sample(model=None, **settings):
    """A run's learner, and a rollout for it."""
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=2, **settings)
        .rl_module(model_config={"fcnet_hiddens": (8,), **(model or {})})
    )
    algorithm = config.build()
    rollout = algorithm.env_runner.sample()
    algorithm.stop()
    return algorithm.learner, rollout


def flat(learner):
    return torch.cat([parameter.detach().float().flatten() for parameter in learner.module.parameters()])


@pytest.mark.parametrize("num_pieces", [2, 3, 100])
@pytest.mark.parametrize("model", [{}, {"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 3}], ids=["mlp", "lstm"])
def test_a_minibatch_in_pieces_teaches_what_it_teaches_in_one(model, num_pieces):
    if num_pieces > 32:
        with pytest.raises(ConfigError, match="gradient_accumulation_steps: got 100, expected at most minibatch_size"):
            sample(model, gradient_accumulation_steps=num_pieces)
        return
    whole, rollout = sample(model)
    pieces, _ = sample(model, gradient_accumulation_steps=num_pieces)
    figures = [learner.update(rollout) for learner in (whole, pieces)]
    torch.testing.assert_close(flat(pieces), flat(whole), atol=1e-5, rtol=1e-3)
    assert figures[1] == pytest.approx(figures[0], rel=1e-3, abs=1e-5)


def test_pieces_of_segments_are_whole_segments():
    learner, rollout = sample({"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 3})
    batch, _ = learner.objective.prepare(learner.module, rollout, learner.settings)
    (minibatch, *_) = minibatches(batch, size=64, num_epochs=1, generator=torch.Generator())
    for num_pieces in (1, 2, 5, 1000):
        pieces = pieces_of(minibatch, num_pieces)
        assert sum(len(piece.advantage) for piece in pieces) == len(minibatch.advantage)
        assert all(len(piece.advantage) for piece in pieces)
        for piece in pieces:
            num_segments = piece.obs.shape[1]
            assert {len(leaf) for leaf in tree_leaves(piece.state)} == {num_segments}
            assert int(piece.real.max()) < piece.obs.shape[0] * num_segments
            assert len(piece.real) == len(piece.advantage)


@pytest.mark.parametrize("precision", HALVES)
def test_half_precision_learns_nearly_what_full_precision_does(precision):
    settings = {"lr": 1e-3, "gamma": 0.9}
    full, rollout = sample(**settings)
    half, _ = sample(precision=precision, **settings)
    before = flat(full).clone()
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}[precision.partition("-")[0]]
    stored = {parameter.dtype for parameter in half.module.parameters()}
    assert stored == ({dtype} if precision.endswith("true") else {torch.float32})
    for _ in range(40):
        full.update(rollout)
        figures = half.update(rollout)
    assert all(np.isfinite(value) for value in figures.values())
    change, change_half = flat(full) - before, flat(half) - before
    assert torch.nn.functional.cosine_similarity(change, change_half, dim=0) > 0.8


def test_small_steps_add_up_in_half_precision():
    value = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    adam = FlatAdam({"value": value}, epsilon=1e-8)
    for _ in range(100):
        value.grad.fill_(1.0)
        adam.step(1e-4)  # less than a bfloat16 can show next to 1
    assert value.float().tolist() == pytest.approx([0.99] * 4, abs=0.004)
    other = FlatAdam({"value": torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))}, epsilon=1e-8)
    other.set_state(adam.get_state())
    assert torch.equal(other.rounded_by, adam.rounded_by)
    full = FlatAdam({"value": torch.nn.Parameter(torch.ones(4))}, epsilon=1e-8)
    full.set_state(adam.get_state())
    adam.set_state(full.get_state())
    assert not adam.rounded_by.any()


def test_float16_leaves_out_steps_that_overflow_and_finds_a_factor():
    learner, rollout = sample(precision="float16-mixed", grad_clip=None)
    learner.backward.scale = 2.0**40
    before = flat(learner).clone()
    figures = learner.update(rollout)
    assert figures["learner/default/num_minibatches"] < 4
    assert learner.backward.scale < 2.0**40
    for _ in range(12):
        learner.update(rollout)
    assert not torch.equal(flat(learner), before)


def test_the_factor_grows_again_and_is_saved():
    backward = Backward("float16-mixed", torch.nn.Linear(1, 1))
    optimizer = FlatAdam(dict(torch.nn.Linear(1, 1).named_parameters()), epsilon=1e-8)
    assert backward.overflowed()
    assert backward.scale == FIRST_SCALE / 2
    for _ in range(GROWTH_INTERVAL):
        backward.finish(optimizer)
    assert backward.scale == FIRST_SCALE
    other = Backward("float16-mixed", torch.nn.Linear(1, 1))
    backward.scale = 8.0
    other.set_state(backward.get_state())
    assert other.scale == 8.0
    plain = Backward("float32", torch.nn.Linear(1, 1))
    plain.set_state(backward.get_state())
    assert plain.scale == 1.0
    assert not plain.overflowed()


def test_all_optimizers_of_a_step_are_freed_of_the_same_factor():
    backward = Backward("float16-mixed", torch.nn.Linear(1, 1))
    parameters = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizers = [FlatAdam({"value": parameter}, epsilon=1e-8) for parameter in parameters]
    for _ in range(GROWTH_INTERVAL):  # the factor grows in the last of them
        for parameter, optimizer in zip(parameters, optimizers, strict=True):
            optimizer.zero_grad()
            backward(3.0 * parameter.sum())
        backward.finish(*optimizers)
        assert [optimizer.grad.item() for optimizer in optimizers] == [3.0, 3.0]
    assert backward.scale == 2 * FIRST_SCALE


def test_a_loss_that_is_not_finite_ends_the_run_in_half_precision_too():
    learner, rollout = sample(precision="float16-mixed")
    reward = rollout.reward.clone()
    reward[0, 0] = torch.nan
    with pytest.raises(NonFiniteError):
        for _ in range(20):
            learner.update(dataclasses.replace(rollout, reward=reward))


@pytest.mark.parametrize("precision", HALVES)
def test_off_policy_learners_take_half_precision(precision):
    config = SACConfig().environment("Pendulum-v1").reporting(min_sample_timesteps_per_iteration=0)
    config.training(num_steps_sampled_before_learning_starts=8, precision=precision, train_batch_size_per_learner=16)
    algorithm = config.rl_module(model_config={"fcnet_hiddens": (8,)}).build()
    before = flat(algorithm.learner).clone()
    for _ in range(20):
        algorithm.train()
    assert flat(algorithm.learner).isfinite().all()
    assert not torch.equal(flat(algorithm.learner), before)
    algorithm.stop()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("model", [{}, {"use_lstm": True, "lstm_cell_size": 4}], ids=["mlp", "lstm"])
def test_policies_act_in_half_precision_and_publish_what_they_were_given(dtype, model):
    config = PPOConfig().environment("CartPole-v1").env_runners(inference_dtype=dtype)
    config.training(train_batch_size_per_learner=64, minibatch_size=64, num_epochs=1)
    algorithm = config.rl_module(model_config={"fcnet_hiddens": (8,), **model}).build()
    module = algorithm.policy.module
    assert {parameter.dtype for parameter in module.parameters()} == {getattr(torch, dtype)}
    rollout = algorithm.env_runner.sample()
    assert rollout.behavior_dist_inputs.dtype == torch.float32
    exact = copy.deepcopy(algorithm.learner.module)
    obs, state = rollout.obs[0], tree_map(lambda leaf: leaf[0], rollout.state)
    with torch.inference_mode():
        expected, _ = exact.forward_policy(obs, state)
    torch.testing.assert_close(rollout.behavior_dist_inputs[0], expected, atol=0.02, rtol=0.02)
    algorithm.train()
    assert all(tensor.dtype == torch.float32 for tensor in algorithm.learner.weights().tensors.values())
    assert algorithm.evaluate(num_episodes=2)["evaluation/episode_return_mean"] > 0
    algorithm.stop()


def test_a_compiled_module_is_called_through_torch_compile():
    learner, _ = sample()
    config = PPOConfig().environment("CartPole-v1").learners(torch_compile=True)
    algorithm = config.build()
    parts = list(algorithm.learner.module.children())
    assert parts
    assert all(part._compiled_call_impl is not None for part in parts)
    assert not any(part._compiled_call_impl for part in learner.module.children())
    assert algorithm.learner.module.state_dict().keys() == algorithm.policy.module.state_dict().keys() | {
        name
        for name in algorithm.learner.module.state_dict()
        if name.split(".")[0] in algorithm.learner.module.learner_only
    }
    algorithm.stop()
