import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_core.ops.soft_actor_critic import (
    actor_loss,
    discrete_actor_loss,
    discrete_soft_value,
    smoothed_action,
    soft_target,
    temperature_loss,
)

seeds = st.integers(0, 2**31)
temperatures = st.floats(0, 3) | st.floats(0, 3).map(lambda alpha: torch.tensor(alpha, dtype=torch.float64))


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def slow_soft_value(q, log_prob, alpha):
    result = []
    for row, logs in zip(q.tolist(), log_prob.tolist(), strict=True):
        terms = (math.exp(log) * (value - alpha * log) for value, log in zip(row, logs, strict=True) if log > -math.inf)
        result.append(sum(terms))
    return result


def masked_log_prob(seed, samples=4, actions=5):
    """Log probabilities with the first action forbidden, and the logits they come from."""
    logits = random(samples, actions, seed=seed).requires_grad_()
    forbidden = torch.zeros(actions, dtype=torch.bool)
    forbidden[0] = True
    return logits, logits.masked_fill(forbidden, -math.inf).log_softmax(1)


def test_soft_target_by_hand():
    result = soft_target(numbers(1, 2), numbers(0.5, 0), numbers(10, 20), numbers(-2, 3), 0.1)
    assert result.tolist() == pytest.approx([1 + 0.5 * (10 + 0.2), 2])


@given(size=st.integers(1, 20), seed=seeds, alpha=temperatures)
def test_soft_target_equals_the_loop_in_single_precision(size, seed, alpha):
    columns = random(4, size, seed=seed, dtype=torch.float32)
    alpha = alpha.float() if isinstance(alpha, torch.Tensor) else alpha
    slow = [r + d * (q - float(alpha) * log) for r, d, q, log in columns.T.tolist()]
    assert soft_target(*columns, alpha).tolist() == pytest.approx(slow, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ["discount", "next_q", "next_log_prob", "alpha"])
def test_soft_target_refuses_shapes_that_would_broadcast(name):
    arguments = {key: random(4) for key in ("reward", "discount", "next_q", "next_log_prob")} | {"alpha": numbers(1)[0]}
    arguments[name] = arguments[name].unsqueeze(-1)
    with pytest.raises(ValueError, match=f"soft target: {name} has shape"):
        soft_target(**arguments)


def test_discrete_soft_value_of_a_uniform_policy_by_hand():
    log_prob = torch.full((1, 4), math.log(0.25), dtype=torch.float64)
    result = discrete_soft_value(numbers(1, 2, 3, 6).unsqueeze(0), log_prob, 0.5)
    assert result.item() == pytest.approx(3 + 0.5 * math.log(4))


@given(samples=st.integers(1, 6), actions=st.integers(1, 6), seed=seeds, alpha=temperatures)
def test_discrete_soft_value_equals_the_loop(samples, actions, seed, alpha):
    q, log_prob = random(samples, actions, seed=seed), random(samples, actions, seed=seed + 1).log_softmax(1)
    result = discrete_soft_value(q.float(), log_prob.float(), alpha)
    assert result.tolist() == pytest.approx(slow_soft_value(q, log_prob, float(alpha)), rel=1e-5, abs=1e-5)


@given(seed=seeds, alpha=st.floats(0.05, 3))
def test_the_boltzmann_policy_has_the_largest_soft_value_and_no_gradient(seed, alpha):
    q = random(3, 5, seed=seed)
    logits = (q / alpha).requires_grad_()
    best = discrete_soft_value(q, logits.log_softmax(1), alpha)
    torch.testing.assert_close(best, alpha * (q / alpha).logsumexp(1))
    assert (discrete_soft_value(q, random(3, 5, seed=seed + 1).log_softmax(1), alpha) <= best + 1e-9).all()
    gradient = torch.autograd.grad(discrete_actor_loss(q, logits.log_softmax(1), alpha), logits)[0]
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("alpha", [0.0, 0.2, 50.0])
def test_forbidden_actions_add_nothing_to_value_or_gradient(alpha):
    logits, log_prob = masked_log_prob(0)
    q = random(4, 5, seed=1)
    without = logits[:, 1:].log_softmax(1)
    torch.testing.assert_close(discrete_soft_value(q, log_prob, alpha), discrete_soft_value(q[:, 1:], without, alpha))
    gradient = torch.autograd.grad(discrete_actor_loss(q, log_prob, alpha), logits)[0]
    assert torch.equal(gradient[:, 0], torch.zeros(4, dtype=torch.float64))
    expected = torch.autograd.grad(discrete_actor_loss(q[:, 1:], without, alpha), logits)[0]
    torch.testing.assert_close(gradient, expected)


def test_discrete_soft_value_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match=r"discrete soft value: log_prob has shape \(4, 1\), expected \[N, A\]"):
        discrete_soft_value(random(4, 3), random(4, 1), 0.1)


def test_actor_loss_by_hand():
    assert actor_loss(numbers(1, 3), numbers(-1, 2), 0.5).item() == pytest.approx(((-0.5 - 1) + (1 - 3)) / 2)


@given(size=st.integers(1, 20), seed=seeds, alpha=temperatures)
def test_actor_loss_and_its_gradient_equal_the_loop(size, seed, alpha):
    q, log_prob = (column.requires_grad_() for column in random(2, size, seed=seed).unbind())
    loss = actor_loss(q, log_prob, alpha)
    slow = sum(float(alpha) * log - value for value, log in zip(q.tolist(), log_prob.tolist(), strict=True)) / size
    assert loss.item() == pytest.approx(slow, rel=1e-9, abs=1e-9)
    q_gradient, log_prob_gradient = torch.autograd.grad(loss, (q, log_prob))
    torch.testing.assert_close(q_gradient, torch.full_like(q_gradient, -1 / size))
    torch.testing.assert_close(log_prob_gradient, torch.full_like(q_gradient, float(alpha) / size))


@pytest.mark.parametrize(("loss_fn", "shape"), [(actor_loss, (4,)), (discrete_actor_loss, (4, 3))])
def test_actor_losses_send_no_gradient_to_the_temperature(loss_fn, shape):
    alpha = numbers(0.3)[0].requires_grad_()
    loss = loss_fn(random(*shape), random(*shape, seed=1).requires_grad_(), alpha)
    assert torch.autograd.grad(loss, alpha, allow_unused=True) == (None,)


@pytest.mark.parametrize(("name", "shape"), [("log_prob", (4, 1)), ("alpha", (1,))])
def test_actor_loss_refuses_shapes_that_would_broadcast(name, shape):
    arguments = {"q": random(4), "log_prob": random(4), "alpha": 0.1} | {name: random(*shape)}
    with pytest.raises(ValueError, match=f"actor loss: {name} has shape"):
        actor_loss(**arguments)


@given(samples=st.integers(1, 6), actions=st.integers(1, 6), seed=seeds, alpha=st.floats(0, 3))
def test_discrete_actor_loss_and_its_gradient_equal_the_plain_formula(samples, actions, seed, alpha):
    q, logits = random(samples, actions, seed=seed), random(samples, actions, seed=seed + 1).requires_grad_()
    loss = discrete_actor_loss(q, logits.log_softmax(1), alpha)
    probability = logits.softmax(1)
    expected = (probability * (alpha * probability.log() - q)).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits))


def test_discrete_actor_loss_sends_no_gradient_to_the_critic():
    q = random(4, 3).requires_grad_()
    loss = discrete_actor_loss(q, random(4, 3, seed=1).requires_grad_(), 0.1)
    assert torch.autograd.grad(loss, q, allow_unused=True) == (None,)


def test_temperature_loss_by_hand_rises_below_the_target_entropy_and_falls_above():
    log_alpha = torch.tensor(2.0, requires_grad=True)
    loss = temperature_loss(log_alpha, torch.tensor([-1.0, -3.0]), 5.0)
    assert loss.item() == -2.0 * (-2.0 + 5.0)
    assert torch.autograd.grad(loss, log_alpha)[0].item() == -3.0, "the entropy 2 is below 5: descent raises alpha"
    assert torch.autograd.grad(temperature_loss(log_alpha, torch.tensor([-6.0]), 5.0), log_alpha)[0].item() == 1.0


@given(size=st.integers(1, 20), seed=seeds, target=st.floats(-5, 5))
def test_temperature_loss_equals_the_mean_of_each_samples_term(size, seed, target):
    log_alpha, log_prob = random(seed=seed).requires_grad_(), random(size, seed=seed + 1).requires_grad_()
    loss = temperature_loss(log_alpha, log_prob, target)
    expected = -sum(log_alpha.item() * (log + target) for log in log_prob.tolist()) / size
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert torch.autograd.grad(loss, log_prob, allow_unused=True) == (None,)


def test_temperature_loss_refuses_a_parameter_with_axes():
    with pytest.raises(ValueError, match=r"temperature loss: log_alpha has shape \(1,\), expected \[\] = \(\)"):
        temperature_loss(torch.zeros(1), random(4), -1.0)


def test_smoothed_action_by_hand_bounds_the_noise_then_the_action():
    action, noise = torch.tensor([[0.0, 0.9], [-0.9, 0.0]]), torch.tensor([[0.1, 0.3], [-9.0, 9.0]])
    result = smoothed_action(action, noise, 0.5, torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(result, torch.tensor([[0.1, 1.2], [-1.0, 0.5]]))


@given(samples=st.integers(1, 5), shape=st.lists(st.integers(1, 3), max_size=2), seed=seeds, clip=st.floats(0, 2))
def test_smoothed_action_equals_the_loop_and_keeps_the_bounds(samples, shape, seed, clip):
    action, noise = random(2, samples, *shape, seed=seed)
    low, high = -random(*shape, seed=seed + 1).abs(), random(*shape, seed=seed + 2).abs()
    result = smoothed_action(action, noise, clip, low, high)
    bounds = [bound.expand(samples, *shape).flatten().tolist() for bound in (low, high)]
    slow = [
        min(max(a + min(max(e, -clip), clip), lowest), highest)
        for a, e, lowest, highest in zip(action.flatten().tolist(), noise.flatten().tolist(), *bounds, strict=True)
    ]
    assert result.flatten().tolist() == pytest.approx(slow)
    assert ((low <= result) & (result <= high)).all()


@pytest.mark.parametrize(("name", "shape"), [("noise", (4, 1)), ("low", (1,)), ("high", (4, 2)), ("high", ())])
def test_smoothed_action_refuses_shapes_that_would_broadcast(name, shape):
    arguments = {"action": random(4, 2), "noise": random(4, 2), "clip": 0.5, "low": random(2), "high": random(2)}
    arguments[name] = random(*shape)
    with pytest.raises(ValueError, match=f"smoothed action: {name} has shape"):
        smoothed_action(**arguments)
