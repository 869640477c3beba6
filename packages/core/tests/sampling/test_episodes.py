import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_core.sampling.episodes import Episode, EpisodeCounter


def slow_count(reward, done, artificial):
    """One step after the other; returns (return, length) in order of the ends."""
    open_return, open_length, ended = np.zeros(reward.shape[1]), np.zeros(reward.shape[1], int), []
    for time in range(len(reward)):
        for slot in range(reward.shape[1]):
            open_return[slot] += reward[time, slot]
            open_length[slot] += not artificial[time, slot]
            if done[time, slot]:
                ended.append((open_return[slot], open_length[slot]))
                open_return[slot], open_length[slot] = 0.0, 0
    return ended


@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**31),
    slots=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    density=st.floats(0, 1),
)
def test_episodes_that_stretch_over_rollouts_are_counted_like_one_by_one(seed, slots, lengths, density):
    random = np.random.default_rng(seed)
    total = sum(lengths)
    reward = random.integers(-5, 6, (total, slots)).astype(float)
    artificial = random.random((total, slots)) < 0.2
    done = (random.random((total, slots)) < density) & ~artificial
    reward[artificial] = 0.0
    counter, found, start = EpisodeCounter(slots), [], 0
    for length in lengths:
        rows = slice(start, start + length)
        stats = counter.count(reward[rows], done[rows], artificial[rows])
        found += list(zip(stats.returns, stats.lengths, strict=True))
        start += length
    assert found == slow_count(reward, done, artificial)


def test_returns_are_summed_in_double_precision():
    counter = EpisodeCounter(1)
    reward = np.full((1000, 1), 0.1, np.float32)
    done = np.zeros((1000, 1), bool)
    done[-1] = True
    for _ in range(99):
        counter.count(reward, np.zeros_like(done), np.zeros_like(done))
    (value,) = counter.count(reward, done, np.zeros_like(done)).returns
    assert abs(value - 1e5 * float(np.float32(0.1))) < 1e-6


def test_a_long_lived_slot_does_not_lose_precision_of_short_episodes():
    counter = EpisodeCounter(1)
    reward = np.array([[1e12], [0.1], [0.2]])
    done = np.array([[True], [True], [True]])
    stats = counter.count(reward, done, np.zeros_like(done))
    np.testing.assert_allclose(stats.returns, [1e12, 0.1, 0.2], rtol=1e-9)


def test_episode_return_is_the_sum_of_its_rewards():
    episode = Episode(slot=0, obs=np.zeros(3), action=np.zeros(2), reward=np.array([0.5, 1.5]), terminated=True)
    assert episode.episode_return == 2.0


def test_a_reward_that_is_no_number_spoils_its_own_episode_only():
    counter = EpisodeCounter(1)
    reward = np.array([[np.nan], [1.0], [2.0], [3.0]])
    done = np.array([[True], [False], [True], [False]])
    stats = counter.count(reward, done, np.zeros_like(done))
    np.testing.assert_array_equal(stats.returns, [np.nan, 3.0])
    assert counter.open_return.tolist() == [3.0]
