import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_core.errors import ConfigError
from rl_core.replay.priorities import MAX_TOP, PrioritySettings, SumTree


@settings(max_examples=60)
@given(size=st.integers(1, 200_000), seed=st.integers(0, 1000))
def test_draws_are_those_of_a_running_sum_over_all_leaves(size, seed):
    rng = np.random.default_rng(seed)
    leaves = rng.integers(0, 4, size).astype(np.float64)  # whole numbers: every sum is exact
    leaves[rng.integers(size)] = 1.0
    tree = SumTree(size)
    tree.set_range(0, leaves)
    fraction = rng.random(300)
    running = np.cumsum(leaves)
    assert np.array_equal(tree.draw(fraction), running.searchsorted(fraction * running[-1], side="right"))


@settings(max_examples=30)
@given(size=st.integers(1, 100_000), seed=st.integers(0, 1000))
def test_a_tree_is_the_same_however_its_leaves_were_written(size, seed):
    rng = np.random.default_rng(seed)
    changed, fresh = SumTree(size), SumTree(size)
    for _ in range(20):
        index = rng.integers(0, size, 50)
        changed.set(index, 10 ** rng.uniform(-8, 8, 50))
        start = int(rng.integers(size))
        changed.set_range(start, rng.random(min(100, size - start)))
    fresh.set_range(0, changed.leaves)
    fraction = rng.random(200)
    assert np.array_equal(changed.draw(fraction), fresh.draw(fraction))


@pytest.mark.parametrize("size", [5, MAX_TOP, MAX_TOP + 1, 3 * MAX_TOP, 32 * MAX_TOP + 7])
def test_leaves_of_zero_are_never_drawn_not_even_at_the_edges(size):
    tree = SumTree(size)
    rng = np.random.default_rng(0)
    places = np.unique(rng.integers(0, size, max(1, size // 50)))
    tree.set(places, 10 ** rng.uniform(-12, 12, len(places)))
    fraction = np.concatenate([[0.0, np.nextafter(1, 0)], rng.random(5000), np.arange(1000) / 1000])
    assert np.isin(tree.draw(fraction), places).all()


def test_of_several_values_for_one_place_the_last_holds():
    tree = SumTree(10_000)
    tree.set(np.array([7, 9_000, 7]), np.array([1.0, 2.0, 3.0]))
    assert tree.leaves[7] == 3.0
    assert tree.draw(np.array([0.0, 0.59, 0.61, 0.99])).tolist() == [7, 7, 9_000, 9_000]


def test_draws_are_in_proportion_to_the_leaves():
    rng = np.random.default_rng(1)
    leaves = rng.random(40) ** 3
    tree = SumTree(50_000)
    places = np.sort(rng.choice(50_000, 40, replace=False))
    tree.set(places, leaves)
    num = 100_000
    drawn, counts = np.unique(tree.draw(rng.random(num)), return_counts=True)
    expected = dict(zip(places.tolist(), num * leaves / leaves.sum(), strict=True))
    counted = dict(zip(drawn.tolist(), counts.tolist(), strict=True))
    chi_square = sum((counted.get(place, 0) - mean) ** 2 / mean for place, mean in expected.items())
    assert chi_square < 72  # 39 degrees of freedom, p = 0.001


def test_the_bytes_are_told_before_a_tree_is_made():
    for size in (10, 5000, 300_000):
        assert SumTree.count_bytes(size) == SumTree(size).nbytes


@pytest.mark.parametrize("values", [{"alpha": -0.1}, {"alpha": 1.5}, {"epsilon": 0.0}])
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        PrioritySettings(**values)
