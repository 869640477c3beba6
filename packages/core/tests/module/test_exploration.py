import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_core.module.exploration import FORBIDDEN, EpsilonGreedy, NoisyAction

MANY = 20_000
LOW, HIGH = np.array([-2.0, 1.0], np.float32), np.array([0.0, 5.0], np.float32)


def sampled(distribution, inputs, count=MANY, seed=0):
    """Many actions of one row of inputs."""
    noise = distribution.noise((count,), torch.Generator().manual_seed(seed))
    return distribution.sample(torch.tensor(inputs).expand(count, -1), noise)


def probabilities(inputs, num_choices):
    """By enumeration, from `log_prob`."""
    distribution = EpsilonGreedy(num_choices)
    return [
        float(distribution.log_prob(torch.tensor([inputs]), torch.tensor([action])).exp()[0])
        for action in range(num_choices)
    ]


# --- EpsilonGreedy ---


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_epsilon_greedy_samples_as_often_as_log_prob_says(epsilon):
    inputs = [0.5, -1.0, 2.0, FORBIDDEN, epsilon]
    counts = torch.bincount(sampled(EpsilonGreedy(4), inputs), minlength=4) / MANY
    expected = probabilities(inputs, 4)
    third = epsilon / 3
    assert expected == pytest.approx([third, third, third + 1 - epsilon, 0.0], abs=1e-6)
    assert counts.tolist() == pytest.approx(expected, abs=0.015)
    assert counts[3] == 0


@given(
    value=st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=5),
    masked=st.lists(st.booleans(), min_size=5, max_size=5),
    epsilon=st.floats(0, 1, width=32),
    seed=st.integers(0, 99),
)
def test_epsilon_greedy_never_does_what_is_forbidden(value, masked, epsilon, seed):
    masked = masked[: len(value)]
    masked[0] = False
    inputs = [torch.finfo().min / 2 if hide else one for one, hide in zip(value, masked, strict=True)] + [epsilon]
    distribution = EpsilonGreedy(len(value))
    actions = sampled(distribution, inputs, count=200, seed=seed)
    assert not any(masked[action] for action in actions.tolist())
    assert not masked[int(distribution.mode(torch.tensor(inputs)))]
    every = probabilities(inputs, len(value))
    assert sum(every) == pytest.approx(1.0, abs=1e-5)
    assert all(every[action] == 0 for action, hide in enumerate(masked) if hide)


@pytest.mark.parametrize("epsilon", [0.0, 0.2, 1.0])
def test_epsilon_greedy_entropy_and_kl_by_enumeration(epsilon):
    distribution = EpsilonGreedy(3)
    inputs, other = [0.1, 0.7, -0.4, epsilon], [0.9, 0.7, FORBIDDEN, 0.5]
    p, q = probabilities(inputs, 3), probabilities(other, 3)
    entropy = -sum(one * math.log(one) for one in p if one > 0)
    assert float(distribution.entropy(torch.tensor(inputs))) == pytest.approx(entropy, abs=1e-6)
    kl = sum(one * (math.log(one / two) if two > 0 else math.inf) for one, two in zip(p, q, strict=True) if one > 0)
    assert float(distribution.kl(torch.tensor(inputs), torch.tensor(other))) == pytest.approx(kl, abs=1e-6)
    assert float(distribution.kl(torch.tensor(inputs), torch.tensor(inputs))) == 0


def test_epsilon_greedy_leaves_the_weights_noise_out_of_its_mode():
    distribution = EpsilonGreedy(3, noisy=True)
    assert distribution.num_inputs == 7
    inputs = torch.tensor([[0.0, 2.0, 1.0, 5.0, 1.0, 1.0, 0.0]])
    assert distribution.mode(inputs).tolist() == [0]
    assert sampled(distribution, inputs[0].tolist(), count=50).unique().tolist() == [1]
    assert distribution.log_prob(inputs, torch.tensor([1])).tolist() == [0.0]
    assert EpsilonGreedy(3).mode(torch.tensor([[0.0, 2.0, 1.0, 9.0]])).tolist() == [1], "epsilon is no value"


def test_epsilon_greedy_takes_any_leading_axes():
    distribution = EpsilonGreedy(3)
    inputs = torch.rand(4, 2, 4)
    noise = distribution.noise((4, 2), torch.Generator())
    action = distribution.sample(inputs, noise)
    assert action.shape == (4, 2)
    assert action.dtype == torch.int64
    for result in (
        distribution.log_prob(inputs, action),
        distribution.entropy(inputs),
        distribution.kl(inputs, inputs),
    ):
        assert result.shape == (4, 2)
    flat = distribution.sample(inputs.flatten(0, 1), noise.flatten(0, 1))
    assert torch.equal(action.flatten(), flat)


# --- NoisyAction ---


def test_noisy_action_is_the_clipped_sum_of_action_and_noise():
    distribution = NoisyAction(LOW, HIGH)
    inputs = torch.tensor([[-1.0, 4.5, 0.5, 0.0], [-1.0, 4.5, 0.0, 0.0]])
    normal, uniform = torch.tensor([[1.5, 2.0], [9.0, 9.0]]), torch.rand(2, 3)
    # Half the ranges are 1 and 2: -1 + 0.5 * 1 * 1.5, and 4.5 + 0.5 * 2 * 2 clipped to 5.
    assert distribution.sample(inputs, (normal, uniform)).tolist() == [[-0.25, 5.0], [-1.0, 4.5]]
    assert distribution.mode(inputs).tolist() == [[-1.0, 4.5], [-1.0, 4.5]]


def test_noisy_action_samples_as_its_density_says():
    distribution = NoisyAction(LOW, HIGH)
    inputs = [-1.0, 3.0, 0.1, 0.0]  # ten deviations off the bounds: nothing is clipped
    actions = sampled(distribution, inputs)
    row = torch.tensor(inputs).expand(MANY, -1)
    deviation = torch.tensor([0.1, 0.2])
    expected = torch.distributions.Normal(row[:, :2], deviation)
    torch.testing.assert_close(distribution.log_prob(row, actions), expected.log_prob(actions).sum(-1))
    entropy = distribution.entropy(torch.tensor(inputs))
    torch.testing.assert_close(entropy, expected.entropy()[0].sum())
    assert float(-distribution.log_prob(row, actions).mean()) == pytest.approx(float(entropy), abs=0.03)
    assert actions.mean(0).tolist() == pytest.approx([-1.0, 3.0], abs=0.01)
    assert actions.std(0).tolist() == pytest.approx([0.1, 0.2], rel=0.03)


@pytest.mark.parametrize("epsilon", [0.25, 1.0])
def test_noisy_action_is_uniform_as_often_as_epsilon_says(epsilon):
    actions = sampled(NoisyAction(LOW, HIGH), [-1.0, 3.0, 0.0, epsilon])
    uniform = actions[(actions != torch.tensor([-1.0, 3.0])).all(-1)]
    assert len(uniform) / MANY == pytest.approx(epsilon, abs=0.015)
    share = (uniform - torch.from_numpy(LOW)) / torch.from_numpy(HIGH - LOW)
    assert 0 <= float(share.min())
    assert float(share.max()) <= 1
    assert share.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert share.var(0).tolist() == pytest.approx([1 / 12, 1 / 12], abs=0.005)


def test_noisy_action_kl_is_that_of_normals():
    distribution = NoisyAction(LOW, HIGH)
    inputs, other = torch.tensor([-1.0, 3.0, 0.1, 0.0]), torch.tensor([-0.5, 2.0, 0.3, 0.9])
    p = torch.distributions.Normal(inputs[:2], torch.tensor([0.1, 0.2]))
    q = torch.distributions.Normal(other[:2], torch.tensor([0.3, 0.6]))
    expected = torch.distributions.kl_divergence(p, q).sum()
    torch.testing.assert_close(distribution.kl(inputs, other), expected)
    assert float(distribution.kl(inputs, inputs)) == pytest.approx(0.0, abs=1e-6)


def test_noisy_action_without_noise_is_certain():
    distribution = NoisyAction(LOW, HIGH)
    inputs = torch.tensor([[-1.0, 3.0, 0.0, 0.0]])
    assert distribution.log_prob(inputs, torch.tensor([[-1.0, 3.0]])).tolist() == [0.0]
    assert distribution.log_prob(inputs, torch.tensor([[-1.0, 3.1]])).tolist() == [-math.inf]
    assert distribution.entropy(inputs).tolist() == [-math.inf]


def test_noisy_action_keeps_the_shape_of_the_space():
    distribution = NoisyAction(np.full((2, 3), -1.0), np.full((2, 3), 1.0))
    inputs = torch.rand(5, 4, distribution.num_inputs)
    action = distribution.sample(inputs, distribution.noise((5, 4), torch.Generator()))
    assert action.shape == (5, 4, 2, 3)
    assert distribution.mode(inputs).shape == (5, 4, 2, 3)
    assert distribution.log_prob(inputs, action).shape == (5, 4)


def test_distributions_say_what_they_are():
    assert repr(EpsilonGreedy(3, noisy=True)) == "EpsilonGreedy(3, noisy=True)"
    assert repr(NoisyAction(LOW, HIGH)) == "NoisyAction(low=[-2.0, 1.0], high=[0.0, 5.0])"
