import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_core.ops.returns import explained_variance, gae, reverse_scan, vtrace

GAMMA, LAMBDA = 0.9, 0.8


def slow_scan(value, decay):
    """`y[t] = value[t] + decay[t] * y[t + 1]`, one number after the other in Python floats."""
    rows, slots = value.shape
    result = np.zeros((rows, slots))
    for slot in range(slots):
        following = 0.0
        for time in reversed(range(rows)):
            following = float(value[time, slot]) + float(decay[time, slot]) * following
            result[time, slot] = following
    return result


def slow_gae(reward, value, next_value, terminated, truncated, gamma, lambda_):
    """The definition as a sum: discounted deltas up to and including the step that ends the episode."""
    rows, slots = reward.shape
    result = np.zeros((rows, slots))
    for slot in range(slots):
        for start in range(rows):
            factor = 1.0
            for time in range(start, rows):
                future = 0.0 if terminated[time, slot] else next_value[time, slot]
                result[start, slot] += factor * (reward[time, slot] + gamma * future - value[time, slot])
                factor *= gamma * lambda_
                if terminated[time, slot] or truncated[time, slot]:
                    break
    return result


def random_rollout(seed, rows, slots, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(3, rows, slots, generator=generator, dtype=torch.float64).to(dtype)
    ends = torch.rand(2, rows, slots, generator=generator) < 0.2
    return (*numbers, *ends)


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float64).unsqueeze(1)


def flags(*bits):
    return torch.tensor(bits, dtype=torch.bool).unsqueeze(1)


def test_reverse_scan_gives_the_sums_computed_by_hand():
    result = reverse_scan(column(1, 2, 3), column(0.5, 0.1, 7.0))
    assert torch.equal(result, column(1 + 0.5 * (2 + 0.1 * 3), 2 + 0.1 * 3, 3))


@given(rows=st.integers(1, 40), slots=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_reverse_scan_equals_the_loop_for_any_length(rows, slots, seed):
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(rows, slots, generator=generator, dtype=torch.float64)
    decay = torch.rand(rows, slots, generator=generator, dtype=torch.float64) * 1.2
    decay[torch.rand(rows, slots, generator=generator) < 0.2] = 0.0
    np.testing.assert_allclose(reverse_scan(value, decay), slow_scan(value, decay), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 1), (1, 2), (2,)])
def test_reverse_scan_refuses_shapes_that_would_broadcast(shape):
    with pytest.raises(ValueError, match=r"reverse scan: decay has shape .*, expected \[T, B\] = \(3, 2\)"):
        reverse_scan(torch.zeros(3, 2), torch.zeros(shape))


def test_reverse_scan_leaves_its_arguments_alone():
    value, decay = column(1, 2, 3), column(0.5, 0.5, 0.5)
    reverse_scan(value, decay)
    assert torch.equal(value, column(1, 2, 3))
    assert torch.equal(decay, column(0.5, 0.5, 0.5))


def test_reverse_scan_keeps_infinities_in_their_episode():
    result = reverse_scan(column(1, torch.inf, 3), column(0.0, 0.5, 0.5))
    assert result[1] == torch.inf
    assert result[2] == 3


def test_gae_of_three_steps_is_what_one_computes_by_hand():
    reward, value, next_value = column(1, 2, 3), column(10, 20, 30), column(20, 30, 40)
    advantage = gae(reward, value, next_value, flags(0, 0, 0), flags(0, 0, 0), gamma=0.5, lambda_=0.5)
    deltas = (1 + 10 - 10, 2 + 15 - 20, 3 + 20 - 30)
    last = deltas[2]
    middle = deltas[1] + 0.25 * last
    assert torch.equal(advantage, column(deltas[0] + 0.25 * middle, middle, last))


def test_gae_bootstraps_truncated_not_terminated():
    arguments = (column(1.0), column(0.0), column(100.0))
    settings = {"gamma": 0.5, "lambda_": 0.9}
    assert gae(*arguments, flags(1), flags(0), **settings).item() == 1.0
    assert gae(*arguments, flags(0), flags(1), **settings).item() == 51.0
    assert gae(*arguments, flags(1), flags(1), **settings).item() == 1.0, "a terminal state has no future, cut or not"


@pytest.mark.parametrize(("terminated", "truncated"), [(1, 0), (0, 1), (1, 1)])
def test_no_advantage_flows_across_the_end_of_an_episode(terminated, truncated):
    def first(later_reward):
        reward = column(1.0, later_reward)
        ends = flags(terminated, 0), flags(truncated, 0)
        return gae(reward, column(0, 0), column(5, 0), *ends, gamma=GAMMA, lambda_=LAMBDA)[0].item()

    assert first(0.0) == first(1e6)


@given(rows=st.integers(1, 30), slots=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_gae_equals_the_sum_of_discounted_deltas(rows, slots, seed):
    rollout = random_rollout(seed, rows, slots)
    result = gae(*rollout, gamma=GAMMA, lambda_=LAMBDA)
    np.testing.assert_allclose(
        result, slow_gae(*(part.numpy() for part in rollout), GAMMA, LAMBDA), rtol=1e-9, atol=1e-9
    )


@given(rows=st.integers(1, 300), seed=st.integers(0, 2**31))
def test_gae_equals_the_sum_of_discounted_deltas_in_single_precision(rows, seed):
    rollout = random_rollout(seed, rows, 1, torch.float32)
    expected = slow_gae(*(part.double().numpy() for part in rollout), 0.99, 0.95)
    np.testing.assert_allclose(gae(*rollout, gamma=0.99, lambda_=0.95), expected, rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 2**31), rows=st.integers(1, 20))
def test_gae_with_lambda_one_is_the_discounted_return_less_the_value(seed, rows):
    reward, value, _, _, _ = random_rollout(seed, rows, 2)
    next_value = torch.cat((value[1:], torch.zeros(1, 2, dtype=value.dtype)))
    nothing = torch.zeros(rows, 2, dtype=torch.bool)
    returns = slow_scan(reward, torch.full_like(reward, GAMMA))
    advantage = gae(reward, value, next_value, nothing, nothing, gamma=GAMMA, lambda_=1.0)
    np.testing.assert_allclose(advantage + value, returns, rtol=1e-9, atol=1e-9)


@given(seed=st.integers(0, 2**31))
def test_gae_with_lambda_zero_is_the_one_step_error(seed):
    reward, value, next_value, terminated, truncated = random_rollout(seed, 7, 2)
    delta = reward + GAMMA * next_value * ~terminated - value
    result = gae(reward, value, next_value, terminated, truncated, gamma=GAMMA, lambda_=0.0)
    torch.testing.assert_close(result, delta)


def test_gae_does_not_read_the_next_value_of_a_terminal_step():
    result = gae(column(1), column(0), column(torch.nan), flags(1), flags(0), gamma=GAMMA, lambda_=LAMBDA)
    assert result.item() == 1.0


@pytest.mark.parametrize("name", ["value", "next_value", "terminated", "truncated"])
def test_gae_refuses_shapes_that_would_broadcast(name):
    names = ("reward", "value", "next_value", "terminated", "truncated")
    arguments = dict(zip(names, random_rollout(0, 5, 4), strict=True))
    arguments[name] = arguments[name][:, :1]
    with pytest.raises(ValueError, match=rf"GAE: {name} has shape \(5, 1\), expected \[T, B\] = \(5, 4\)"):
        gae(**arguments, gamma=GAMMA, lambda_=LAMBDA)


def test_explained_variance_of_a_perfect_a_constant_and_a_wrong_prediction():
    target = torch.tensor([1.0, 2.0, 4.0])
    assert explained_variance(target, target) == 1.0
    assert explained_variance(torch.ones(3), target) == 0.0
    assert explained_variance(-target, target) == -3.0
    assert explained_variance(target + 10, target) == 1.0, "a constant error leaves the variance explained"
    assert explained_variance(target, torch.ones(3)).isnan()


@given(size=st.integers(2, 40), seed=st.integers(0, 2**31), scale=st.floats(0.1, 100))
def test_explained_variance_equals_the_loop_in_single_precision(size, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    prediction, target = scale * torch.randn(2, size, generator=generator)

    def slow_variance(numbers):
        mean = sum(numbers) / size
        return sum((number - mean) ** 2 for number in numbers) / size

    errors = [wanted - given_ for wanted, given_ in zip(target.tolist(), prediction.tolist(), strict=True)]
    expected = 1 - slow_variance(errors) / slow_variance(target.tolist())
    result = explained_variance(prediction, target)
    assert result.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert result <= 1
    torch.testing.assert_close(explained_variance(3 * prediction + 1, 3 * target), result, rtol=1e-3, atol=1e-4)


def test_explained_variance_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match=r"prediction has shape \(4, 1\), expected \[N\] = \(4,\)"):
        explained_variance(torch.zeros(4, 1), torch.zeros(4))


def slow_vtrace(reward, value, next_value, terminated, truncated, log_ratio, clips):
    """The paper's recursion (remark 1) and its policy gradient's target, one step after the other."""
    clip_rho, clip_c, clip_pg_rho = clips
    rows, slots = reward.shape
    target, advantage = np.zeros((rows, slots)), np.zeros((rows, slots))
    for slot in range(slots):
        for time in reversed(range(rows)):
            ratio = math.exp(log_ratio[time, slot])
            ended = terminated[time, slot] or truncated[time, slot]
            following = 0.0 if terminated[time, slot] else float(next_value[time, slot])
            v, r = float(value[time, slot]), float(reward[time, slot])
            target[time, slot] = v + min(clip_rho, ratio) * (r + GAMMA * following - v)
            if not ended and time + 1 < rows:
                surplus = target[time + 1, slot] - float(value[time + 1, slot])
                target[time, slot] += GAMMA * LAMBDA * min(clip_c, ratio) * surplus
                following += surplus
            advantage[time, slot] = min(clip_pg_rho, ratio) * (r + GAMMA * following - v)
    return target, advantage


@given(rows=st.integers(1, 20), slots=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_vtrace_is_the_papers_recursion(rows, slots, seed):
    reward, value, next_value, terminated, truncated = random_rollout(seed, rows, slots)
    going_on = ~(terminated | truncated)[:-1]
    next_value[:-1][going_on] = value[1:][going_on]  # within an episode what follows is the next row
    log_ratio = torch.randn(rows, slots, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    clips = (1.3, 0.9, 1.1)
    result = vtrace(
        reward,
        value,
        next_value,
        terminated,
        truncated,
        log_ratio,
        gamma=GAMMA,
        lambda_=LAMBDA,
        clip_rho=clips[0],
        clip_c=clips[1],
        clip_pg_rho=clips[2],
    )
    expected = slow_vtrace(reward, value, next_value, terminated, truncated, log_ratio, clips)
    np.testing.assert_allclose(result.value_target, expected[0], atol=1e-9)
    np.testing.assert_allclose(result.advantage, expected[1], atol=1e-9)


def test_vtrace_of_the_policy_that_acted_is_gae_with_lambda_one():
    reward, value, next_value, terminated, truncated = random_rollout(3, 12, 3)
    going_on = ~(terminated | truncated)[:-1]
    next_value[:-1][going_on] = value[1:][going_on]
    given = (reward, value, next_value, terminated, truncated)
    result = vtrace(*given, torch.zeros_like(reward), gamma=GAMMA)
    advantage = gae(*given, gamma=GAMMA, lambda_=1.0)
    torch.testing.assert_close(result.advantage, advantage)
    torch.testing.assert_close(result.value_target, value + advantage)


def test_vtrace_refuses_shapes_that_would_broadcast():
    reward, value, next_value, terminated, truncated = random_rollout(0, 4, 2)
    with pytest.raises(ValueError, match=r"log_ratio has shape \(4, 1\).*as reward has"):
        vtrace(reward, value, next_value, terminated, truncated, torch.zeros(4, 1), gamma=0.9)
