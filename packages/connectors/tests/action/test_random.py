"""The random numbers of action connectors: known values, uniform, rows apart, and a function of the keys alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_connectors.action._random import initial_keys, normals, uniforms

MASK = 2**64 - 1


def splitmix64(state, num):
    """The published generator with Python's whole numbers."""
    results = []
    for _ in range(num):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        bits = state
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
        results.append(bits ^ (bits >> 31))
    return results


def test_the_first_numbers_of_key_0_are_the_published_ones():
    assert splitmix64(0, 3) == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    _, given_ = uniforms(np.zeros(1, np.uint64), 3)
    assert given_[0].tolist() == [(bits >> 11) * 2.0**-53 for bits in splitmix64(0, 3)]


@given(st.lists(st.integers(0, MASK), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 5))
def test_two_draws_are_one_long_one(keys, one, two):
    keys = np.array(keys, np.uint64)
    after_one, first = uniforms(keys, one)
    after_two, second = uniforms(after_one, two)
    after, both = uniforms(keys, one + two)
    assert np.array_equal(np.concatenate((first, second), axis=1), both)
    assert np.array_equal(after_two, after)
    for row, key in enumerate(keys.tolist()):
        assert both[row].tolist() == [(bits >> 11) * 2.0**-53 for bits in splitmix64(key, one + two)]


def test_numbers_are_uniform_and_neither_slots_steps_nor_seeds_go_together():
    key, steps = initial_keys(7, 64), []
    for _ in range(500):
        key, number = uniforms(key, 2)
        steps.append(number)
    numbers = np.stack(steps)  # [500, 64, 2]
    counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
    chi_squared = ((counts - 640) ** 2 / 640).sum()
    assert chi_squared < 149, "99 degrees of freedom: exceeded with a chance of 0.001"
    columns = numbers.transpose(0, 2, 1).reshape(-1, 64)
    between_slots = np.corrcoef(columns.T) - np.eye(64)
    assert np.abs(between_slots).max() < 5 / np.sqrt(len(columns))
    series = numbers.transpose(1, 0, 2).ravel()
    assert abs(np.corrcoef(series[1:], series[:-1])[0, 1]) < 4 / np.sqrt(len(series))
    other = uniforms(initial_keys(8, 20_000), 1)[1].ravel()
    assert abs(np.corrcoef(uniforms(initial_keys(7, 20_000), 1)[1].ravel(), other)[0, 1]) < 4 / np.sqrt(20_000)


def test_keys_follow_from_seed_and_slot_and_all_differ():
    keys = np.concatenate([initial_keys(seed, 100) for seed in (0, 1, 2, -1, 2**70 + 5)])
    assert len(set(keys.tolist())) == 500
    assert np.array_equal(initial_keys(1, 100)[:30], initial_keys(1, 30)), "more slots do not change the others"


@pytest.mark.parametrize("num", [1, 2, 5])
def test_normal_numbers_have_the_moments_of_the_normal_distribution(num):
    _, normal = normals(initial_keys(0, 40_000), num)
    assert normal.shape == (40_000, num)
    np.testing.assert_allclose(normal.mean(0), 0, atol=0.025)
    np.testing.assert_allclose(normal.std(0), 1, atol=0.02)
    np.testing.assert_allclose((normal**4).mean(0), 3, atol=0.2)
    np.testing.assert_allclose(np.corrcoef(normal.T) - np.eye(num), 0, atol=0.025)
