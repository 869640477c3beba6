import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_core.ops.distributional import (
    categorical_loss,
    categorical_projection,
    quantile_huber_loss,
    truncated_mixture,
)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slow_projection(probability, support, reward, discount):
    """Equation 7 of Bellemare et al. 2017: every atom's mass through a triangle around every support point."""
    samples, atoms = probability.shape
    spacing = float(support[1] - support[0])
    result = np.zeros((samples, atoms))
    for sample in range(samples):
        for atom in range(atoms):
            place = float(reward[sample]) + float(discount[sample]) * float(support[atom])
            place = min(max(place, float(support[0])), float(support[-1]))
            for point in range(atoms):
                nearness = 1 - abs(place - float(support[point])) / spacing
                result[sample, point] += max(nearness, 0.0) * float(probability[sample, atom])
    return result


def slow_quantile_loss(quantiles, target, weight):
    """The formula of the docstring for one critic, one pair after the other."""
    samples, count = quantiles.shape
    errors = np.zeros(samples)
    for sample in range(samples):
        for i in range(count):
            for wanted in target[sample].tolist():
                delta = wanted - float(quantiles[sample, i])
                huber = delta * delta / 2 if abs(delta) <= 1 else abs(delta) - 0.5
                errors[sample] += abs((i + 0.5) / count - (delta < 0)) * huber
    errors /= count * target.shape[1]
    return (weight.numpy() * errors).mean(), errors


def plain_quantile_loss(quantiles, target, weight):
    """The terms as everybody writes them, left to autograd."""
    count = quantiles.shape[-1]
    tau = (torch.arange(count, dtype=quantiles.dtype) + 0.5) / count
    delta = target.unsqueeze(-2) - quantiles.unsqueeze(-1)
    huber = torch.where(delta.abs() <= 1, 0.5 * delta**2, delta.abs() - 0.5)
    return (weight * ((tau.unsqueeze(-1) - (delta < 0).double()).abs() * huber).mean((-2, -1))).mean(-1).sum()


def test_projection_by_hand_shares_between_neighbours_and_clamps_at_the_ends():
    support = torch.tensor([-1.0, 0.0, 1.0])
    probability = torch.tensor([[0.0, 0.0, 1.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    result = categorical_projection(
        probability, support, torch.tensor([0.0, 0.75, -7.0]), torch.tensor([0.25, 0.0, 1.0])
    )
    expected = torch.tensor([[0, 0.75, 0.25], [0, 0.25, 0.75], [1, 0, 0]])
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("shift", [0, 1, -2, 50, -50])
def test_an_atom_that_meets_a_support_point_gives_it_everything(shift):
    support = torch.linspace(-10, 10, 51)
    probability = random(3, 51, dtype=torch.float32).softmax(1)
    reward = torch.full((3,), shift * 0.4)
    result = categorical_projection(probability, support, reward, torch.ones(3))
    expected = torch.zeros(3, 51)
    for atom in range(51):
        expected[:, min(max(atom + shift, 0), 50)] += probability[:, atom]
    torch.testing.assert_close(result, expected, atol=2e-6, rtol=1e-5)


@given(samples=st.integers(1, 4), atoms=st.integers(2, 12), seed=st.integers(0, 2**31), scale=st.floats(0, 20))
def test_projection_equals_the_triangle_kernel_and_keeps_the_sum(samples, atoms, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    probability = torch.rand(samples, atoms, generator=generator).softmax(1)
    support = torch.linspace(-3, 5, atoms)
    reward = scale * torch.randn(samples, generator=generator)
    discount = torch.rand(samples, generator=generator) * (torch.rand(samples, generator=generator) > 0.3)
    result = categorical_projection(probability, support, reward, discount)
    np.testing.assert_allclose(result, slow_projection(probability, support, reward, discount), atol=1e-5)
    torch.testing.assert_close(result.sum(1), torch.ones(samples))
    assert (result >= 0).all()


def test_projection_keeps_the_mean_while_nothing_is_clamped():
    support = torch.linspace(-10, 10, 51, dtype=torch.float64)
    probability = random(6, 51).softmax(1)
    reward, discount = random(6, seed=1).clamp(-1, 1), torch.full((6,), 0.9, dtype=torch.float64)
    result = categorical_projection(probability, support, reward, discount)
    torch.testing.assert_close(result @ support, reward + discount * (probability @ support))


def test_projection_of_a_reward_that_is_not_a_number_shows_in_the_probabilities():
    result = categorical_projection(
        torch.full((2, 3), 1 / 3), torch.linspace(-1, 1, 3), torch.tensor([torch.nan, 0.0]), torch.ones(2)
    )
    assert result[0].isnan().any()
    torch.testing.assert_close(result[1], torch.full((3,), 1 / 3))


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("next_probability", (4, 1), r"\[N, M\] = \(4, 5\)"),
        ("next_probability", (1, 5), r"\[N, M\] = \(4, 5\)"),
        ("reward", (4, 1), r"\[N\] = \(4,\)"),
        ("discount", (1,), r"\[N\] = \(4,\)"),
    ],
)
def test_projection_refuses_shapes_that_would_broadcast(name, shape, expected):
    arguments = {
        "next_probability": random(4, 5),
        "support": torch.linspace(0, 1, 5),
        "reward": random(4),
        "discount": random(4),
    }
    arguments[name] = random(*shape)
    with pytest.raises(ValueError, match=rf"categorical projection: {name} has shape .*, expected {expected}"):
        categorical_projection(**arguments)


def test_projection_refuses_a_support_of_one_point():
    with pytest.raises(ValueError, match="support has 1 points, expected at least 2"):
        categorical_projection(random(4, 1), torch.zeros(1), random(4), random(4))


def test_categorical_loss_by_hand():
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    loss, cross_entropy = categorical_loss(logits, torch.tensor([[0.3, 0.7], [1.0, 0.0]]), torch.tensor([1.0, 0.5]))
    assert cross_entropy.tolist() == pytest.approx([math.log(2), math.log(4)])
    assert loss.item() == pytest.approx((math.log(2) + 0.5 * math.log(4)) / 2)


@given(samples=st.integers(1, 9), atoms=st.integers(2, 9), seed=st.integers(0, 2**31), weighted=st.booleans())
def test_categorical_loss_and_its_gradient_equal_the_plain_formula(samples, atoms, seed, weighted):
    logits = random(samples, atoms, seed=seed).requires_grad_()
    target = random(samples, atoms, seed=seed + 1).softmax(1)
    weight = random(samples, seed=seed + 2).abs() if weighted else torch.ones(samples, dtype=torch.float64)
    loss, cross_entropy = categorical_loss(logits, target, weight if weighted else None)
    normaliser = logits.exp().sum(1, keepdim=True).log()
    expected = -(target * (logits - normaliser)).sum(1)
    torch.testing.assert_close(cross_entropy, expected.detach())
    torch.testing.assert_close(loss, (weight * expected).mean())
    gradient = torch.autograd.grad(loss, logits)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad((weight * expected).mean(), logits)[0])
    torch.testing.assert_close(gradient, weight.unsqueeze(1) * (logits.softmax(1) - target).detach() / samples)


def test_categorical_loss_equals_the_loop_in_single_precision():
    logits, target = random(5, 7, dtype=torch.float32), random(5, 7, seed=1, dtype=torch.float32).softmax(1)
    slow = []
    for row, wanted in zip(logits.tolist(), target.tolist(), strict=True):
        total = math.log(sum(math.exp(logit) for logit in row))
        slow.append(-sum(share * (logit - total) for share, logit in zip(wanted, row, strict=True)))
    loss, cross_entropy = categorical_loss(logits, target)
    assert cross_entropy.tolist() == pytest.approx(slow, rel=1e-5)
    assert loss.item() == pytest.approx(sum(slow) / 5, rel=1e-5)


@pytest.mark.parametrize(("name", "shape"), [("target_probability", (4, 1)), ("weight", (4, 1)), ("weight", (1,))])
def test_categorical_loss_refuses_shapes_that_would_broadcast(name, shape):
    arguments = {"logits": random(4, 3), "target_probability": random(4, 3), "weight": random(4)}
    arguments[name] = random(*shape)
    with pytest.raises(ValueError, match=f"categorical loss: {name} has shape"):
        categorical_loss(**arguments)


def test_quantile_loss_by_hand():
    quantiles, target = torch.tensor([[0.0, 4.0]]), torch.tensor([[0.5]])
    loss, error = quantile_huber_loss(quantiles, target)
    # The quantile 1/4 is 0.5 too low, the quantile 3/4 is 3.5 too high, where the penalty is linear.
    expected = (0.25 * 0.125 + 0.25 * 3.0) / 2
    assert loss.item() == pytest.approx(expected)
    assert error.tolist() == pytest.approx([expected])


@given(samples=st.integers(1, 4), count=st.integers(1, 6), targets=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_quantile_loss_equals_the_loop_in_single_precision(samples, count, targets, seed):
    quantiles = 2 * random(samples, count, seed=seed, dtype=torch.float32)
    target = 2 * random(samples, targets, seed=seed + 1, dtype=torch.float32)
    weight = random(samples, seed=seed + 2, dtype=torch.float32).abs()
    loss, error = quantile_huber_loss(quantiles, target, weight)
    expected, errors = slow_quantile_loss(quantiles, target, weight)
    np.testing.assert_allclose(error, errors, rtol=1e-5, atol=1e-5)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@given(critics=st.lists(st.integers(1, 3), max_size=2), seed=st.integers(0, 2**31), weighted=st.booleans())
def test_quantile_loss_and_its_gradient_equal_the_plain_formula_for_any_number_of_critics(critics, seed, weighted):
    quantiles = 2 * random(*critics, 4, 5, seed=seed)
    target = 2 * random(4, 7, seed=seed + 1)
    weight = random(4, seed=seed + 2).abs() if weighted else torch.ones(4, dtype=torch.float64)
    quantiles.requires_grad_()
    loss, error = quantile_huber_loss(quantiles, target, weight if weighted else None)
    expected = plain_quantile_loss(quantiles, target, weight)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, quantiles), torch.autograd.grad(expected, quantiles))
    assert error.shape == (*critics, 4)
    assert not error.requires_grad


def test_each_critic_has_the_quantile_gradient_it_would_have_alone():
    quantiles, target = random(2, 4, 5).requires_grad_(), random(4, 3, seed=1)
    together = torch.autograd.grad(quantile_huber_loss(quantiles, target)[0], quantiles)[0]
    alone = torch.autograd.grad(quantile_huber_loss(quantiles[1], target)[0], quantiles)[0]
    torch.testing.assert_close(together[1], alone[1])


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_descending_the_quantile_loss_finds_the_quantiles_of_the_target(seed):
    # Far-apart target samples make the Huber part negligible: the minimum is near the sample quantiles.
    target = (100 * random(1, 400, seed=seed)).sort(1).values
    quantiles = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    for _ in range(600):
        gradient = torch.autograd.grad(quantile_huber_loss(quantiles, target)[0], quantiles)[0]
        quantiles.data -= 500 * gradient
    wanted = torch.quantile(target[0], torch.tensor([0.125, 0.375, 0.625, 0.875], dtype=torch.float64))
    torch.testing.assert_close(quantiles.detach()[0], wanted, atol=5.0, rtol=0.0)


def test_the_quantile_loss_sends_no_gradient_to_its_target():
    target = random(4, 3).requires_grad_()
    loss = quantile_huber_loss(random(4, 5, seed=1).requires_grad_(), target)[0]
    assert torch.autograd.grad(loss, target, allow_unused=True) == (None,)


@pytest.mark.parametrize(("name", "shape"), [("target", (1, 3)), ("target", (4,)), ("target", (2, 4, 3))])
def test_quantile_loss_refuses_targets_of_other_samples(name, shape):
    with pytest.raises(ValueError, match=rf"quantile loss: {name} has shape .*, expected \[N, K\]"):
        quantile_huber_loss(random(2, 4, 5), random(*shape))


def test_quantile_loss_refuses_weights_that_would_broadcast():
    with pytest.raises(ValueError, match=r"quantile loss: weight has shape \(4, 1\), expected \[N\] = \(4,\)"):
        quantile_huber_loss(random(2, 4, 5), random(4, 3), random(4, 1))


def test_truncated_mixture_by_hand_drops_the_largest_of_the_pool():
    quantiles = torch.tensor([[[1.0, 9.0, 2.0]], [[8.0, 3.0, 7.0]]])
    assert truncated_mixture(quantiles, 1).tolist() == [[1.0, 2.0, 3.0, 7.0]]
    assert truncated_mixture(quantiles, 2).tolist() == [[1.0, 2.0]]


@given(critics=st.integers(1, 4), samples=st.integers(1, 4), atoms=st.integers(1, 6), data=st.data())
def test_truncated_mixture_equals_sorting_each_samples_pool(critics, samples, atoms, data):
    drop = data.draw(st.integers(0, atoms - 1))
    quantiles = random(critics, samples, atoms, seed=data.draw(st.integers(0, 2**31)))
    result = truncated_mixture(quantiles, drop)
    for sample in range(samples):
        pool = sorted(number for critic in quantiles.tolist() for number in critic[sample])
        assert result[sample].tolist() == pool[: critics * (atoms - drop)]


@pytest.mark.parametrize("drop", [-1, 3, 4])
def test_truncated_mixture_refuses_to_drop_everything(drop):
    with pytest.raises(ValueError, match=f"drop_per_critic is {drop}, expected 0 to 2 of 3"):
        truncated_mixture(random(2, 4, 3), drop)


def test_truncated_mixture_refuses_quantiles_without_an_axis_of_critics():
    with pytest.raises(ValueError, match=r"quantiles has shape \(4, 3\), expected \[C, N, M\]"):
        truncated_mixture(random(4, 3), 1)
