import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_core.ops.sequences import (
    discounted_returns_to_go,
    inverse_rescale,
    rescale,
    sequence_n_step_target,
    sequence_priority,
)

seeds = st.integers(0, 2**31)
NAMES = ("reward", "terminated", "truncated", "valid", "next_value")


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def column(*values):
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def flags(*bits):
    return torch.tensor(bits, dtype=torch.bool).unsqueeze(1)


def segments(seed, length, count, padded=True):
    generator = torch.Generator().manual_seed(seed)
    reward, next_value = torch.randn(2, length, count, generator=generator)
    terminated, truncated, hole = torch.rand(3, length, count, generator=generator) < 0.15
    ends = torch.randint(0, length + 1, (count,), generator=generator)
    valid = ~hole & (torch.arange(length).unsqueeze(1) < ends) if padded else torch.ones_like(hole)
    return reward, terminated, truncated, valid, next_value


def slow_n_step_target(reward, terminated, truncated, valid, next_value, n_step, gamma):
    """Walk every window step by step."""
    length, count = reward.shape
    result = np.zeros((length, count))
    for segment in range(count):
        for start in range(length):
            if not valid[start, segment]:
                continue
            factor, time = 1.0, start
            while True:
                result[start, segment] += factor * float(reward[time, segment])
                factor *= gamma
                over = bool(terminated[time, segment] or truncated[time, segment])
                if over or time + 1 - start == n_step or time + 1 == length or not valid[time + 1, segment]:
                    break
                time += 1
            if not terminated[time, segment]:
                result[start, segment] += factor * float(next_value[time, segment])
    return result


def test_n_step_target_of_four_steps_is_what_one_computes_by_hand():
    reward, next_value, none = column(1, 2, 3, 4), column(10, 20, 30, 40), flags(0, 0, 0, 0)
    target, valid = sequence_n_step_target(reward, none, none, ~none, next_value, n_step=2, gamma=0.5)
    assert torch.equal(target, column(1 + 1 + 0.25 * 20, 2 + 1.5 + 0.25 * 30, 3 + 2 + 0.25 * 40, 4 + 0.5 * 40))
    assert valid.all()


@pytest.mark.parametrize(("terminated", "truncated", "future"), [(1, 0, 0), (0, 1, 0.25 * 20), (1, 1, 0)])
def test_windows_stop_at_the_end_of_an_episode_and_only_a_truncation_bootstraps(terminated, truncated, future):
    reward, next_value = column(1, 2, 1e6), column(10, 20, 1e6)
    ends = flags(0, terminated, 0), flags(0, truncated, 0)
    target, _ = sequence_n_step_target(reward, *ends, flags(1, 1, 1), next_value, n_step=3, gamma=0.5)
    assert target[0].item() == 1 + 0.5 * 2 + future


def test_padding_is_never_read_and_gives_no_target():
    reward, next_value = column(1, torch.nan, torch.nan), column(10, torch.nan, torch.nan)
    target, valid = sequence_n_step_target(
        reward, flags(0, 1, 0), flags(0, 0, 1), flags(1, 0, 0), next_value, n_step=3, gamma=0.5
    )
    assert torch.equal(target, column(6, 0, 0))
    assert torch.equal(valid, flags(1, 0, 0))


def test_the_next_value_of_a_terminal_step_is_not_read():
    target, _ = sequence_n_step_target(
        column(1, 2), flags(0, 1), flags(0, 0), flags(1, 1), column(10, torch.nan), n_step=5, gamma=0.5
    )
    assert torch.equal(target, column(2, 2))


@given(seed=seeds, length=st.integers(1, 12), count=st.integers(1, 4), n_step=st.integers(1, 15), padded=st.booleans())
def test_n_step_target_equals_walking_every_window(seed, length, count, n_step, padded):
    given_segments = segments(seed, length, count, padded)
    target, valid = sequence_n_step_target(*given_segments, n_step=n_step, gamma=0.9)
    np.testing.assert_allclose(target, slow_n_step_target(*given_segments, n_step, 0.9), rtol=1e-5, atol=1e-5)
    assert torch.equal(valid, given_segments[3])


@given(seed=seeds, length=st.integers(1, 10), n_step=st.integers(1, 4), gamma=st.floats(0, 1))
def test_values_that_satisfy_the_bellman_equation_are_their_own_n_step_targets(seed, length, n_step, gamma):
    reward, terminated, truncated, valid, next_value = (part for part in segments(seed, length, 2, padded=False))
    value = reward + gamma * next_value * ~terminated
    done = (terminated | truncated)[:-1]
    consistent = next_value.clone()
    for time in reversed(range(length - 1)):  # the state after a step that does not end is the one the next begins in
        consistent[time] = torch.where(done[time], next_value[time], value[time + 1])
        value[time] = reward[time] + gamma * consistent[time] * ~terminated[time]
    target, _ = sequence_n_step_target(reward, terminated, truncated, valid, consistent, n_step=n_step, gamma=gamma)
    torch.testing.assert_close(target, value)


def test_n_step_target_leaves_its_arguments_alone():
    given_segments = segments(1, 8, 3)
    before = [part.clone() for part in given_segments]
    sequence_n_step_target(*given_segments, n_step=3, gamma=0.9)
    assert all(torch.equal(part, old) for part, old in zip(given_segments, before, strict=True))


@pytest.mark.parametrize("name", NAMES[1:])
def test_n_step_target_refuses_shapes_that_would_broadcast(name):
    arguments = dict(zip(NAMES, segments(0, 5, 4), strict=True))
    arguments[name] = arguments[name][:, :1]
    with pytest.raises(ValueError, match=rf"sequence target: {name} has shape \(5, 1\), expected \[L, S\] = \(5, 4\)"):
        sequence_n_step_target(**arguments, n_step=2, gamma=0.9)


def test_n_step_target_refuses_an_empty_window():
    with pytest.raises(ValueError, match="n_step is 0, expected at least 1"):
        sequence_n_step_target(*segments(0, 5, 4), n_step=0, gamma=0.9)


def test_rescale_by_hand():
    x = torch.tensor([0.0, 3.0, -8.0])
    torch.testing.assert_close(rescale(x, 0.1), torch.tensor([0.0, 1.3, -2.8]))
    torch.testing.assert_close(inverse_rescale(torch.tensor([0.0, 1.3, -2.8]), 0.1), x)


@given(x=st.floats(-1e6, 1e6), epsilon=st.sampled_from([0.0, 1e-3, 1e-2, 0.5]))
def test_rescale_equals_the_formula_of_the_paper_and_is_undone_by_its_inverse(x, epsilon):
    sign = math.copysign(1, x)
    slow = sign * (math.sqrt(abs(x) + 1) - 1) + epsilon * x
    rescaled = rescale(torch.tensor(x, dtype=torch.float64), epsilon)
    assert rescaled.item() == pytest.approx(slow, rel=1e-9, abs=1e-9)
    assert inverse_rescale(rescaled, epsilon).item() == pytest.approx(x, rel=1e-9, abs=1e-12)
    single = inverse_rescale(rescale(torch.tensor(x, dtype=torch.float32), epsilon), epsilon)
    assert single.item() == pytest.approx(x, rel=1e-5, abs=1e-9), "single precision loses nothing around 0 either"
    if epsilon > 0:
        inner = (math.sqrt(1 + 4 * epsilon * (abs(x) + 1 + epsilon)) - 1) / (2 * epsilon)
        inverse = inverse_rescale(torch.tensor(x, dtype=torch.float64), epsilon)
        assert inverse.item() == pytest.approx(sign * (inner**2 - 1), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("function", [rescale, inverse_rescale])
def test_rescaling_has_the_gradient_of_finite_differences(function):
    x = torch.tensor([-300.0, -1.0, -0.1, 0.2, 5.0, 70.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x,))


def test_rescaling_has_its_slope_at_zero():
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.grad(rescale(x, 0.1), x)[0].item() == pytest.approx(0.5 + 0.1)
    assert torch.autograd.grad(inverse_rescale(x, 0.1), x)[0].item() == pytest.approx(1 / 0.6)


def test_sequence_priority_by_hand():
    error = torch.tensor([[1.0, 5.0], [-3.0, 9.0], [2.0, torch.nan]])
    valid = torch.tensor([[True, True], [True, False], [True, False]])
    assert sequence_priority(error, valid, 0.5).tolist() == pytest.approx([(3 + 2) / 2, 5])


@given(seed=seeds, length=st.integers(1, 8), count=st.integers(1, 4), eta=st.floats(0, 1))
def test_sequence_priority_equals_the_loop_and_lies_between_mean_and_maximum(seed, length, count, eta):
    error, valid = random(length, count, seed=seed, dtype=torch.float32), segments(seed, length, count)[3]
    result = sequence_priority(error, valid, eta)
    for segment in range(count):
        sizes = [abs(error[time, segment].item()) for time in range(length) if valid[time, segment]]
        slow = eta * max(sizes) + (1 - eta) * sum(sizes) / len(sizes) if sizes else 0.0
        assert result[segment].item() == pytest.approx(slow, rel=1e-5, abs=1e-6)


def test_sequence_priority_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match=r"sequence priority: valid has shape \(5, 1\), expected \[L, S\] = \(5, 4\)"):
        sequence_priority(random(5, 4), torch.ones(5, 1, dtype=torch.bool))


def test_returns_to_go_by_hand():
    result = discounted_returns_to_go(column(1, 2, 3), flags(0, 1, 0), torch.tensor([8.0], dtype=torch.float64), 0.5)
    assert torch.equal(result, column(2, 2, 7))


@given(seed=seeds, rows=st.integers(1, 30), slots=st.integers(1, 4), gamma=st.floats(0, 1))
def test_returns_to_go_equal_the_loop_in_single_precision(seed, rows, slots, gamma):
    reward, done, _, _, _ = segments(seed, rows, slots)
    bootstrap = random(slots, seed=seed, dtype=torch.float32)
    slow, following = np.zeros((rows, slots)), bootstrap.double().numpy()
    for time in reversed(range(rows)):
        following = reward[time].double().numpy() + gamma * np.where(done[time], 0.0, following)
        slow[time] = following
    np.testing.assert_allclose(discounted_returns_to_go(reward, done, bootstrap, gamma), slow, rtol=1e-5, atol=1e-5)


def test_returns_to_go_do_not_read_the_value_after_an_end_nor_change_the_reward():
    reward = column(1, 2)
    result = discounted_returns_to_go(reward, flags(0, 1), torch.tensor([torch.nan], dtype=torch.float64), 0.5)
    assert torch.equal(result, column(2, 2))
    assert torch.equal(reward, column(1, 2))


def test_returns_to_go_are_the_n_step_targets_of_a_window_as_long_as_the_rollout():
    reward, terminated, _, _, next_value = segments(3, 9, 4)
    none = torch.zeros_like(terminated)
    target, _ = sequence_n_step_target(reward, terminated, none, ~none, next_value, n_step=9, gamma=0.9)
    torch.testing.assert_close(discounted_returns_to_go(reward, terminated, next_value[-1], 0.9), target)


@pytest.mark.parametrize(("name", "shape"), [("done", (5, 1)), ("bootstrap", (1,)), ("bootstrap", (1, 4))])
def test_returns_to_go_refuse_shapes_that_would_broadcast(name, shape):
    arguments = {"reward": random(5, 4), "done": torch.zeros(5, 4, dtype=torch.bool), "bootstrap": random(4)}
    arguments[name] = torch.zeros(shape, dtype=arguments[name].dtype)
    with pytest.raises(ValueError, match=f"returns to go: {name} has shape"):
        discounted_returns_to_go(**arguments, gamma=0.9)
