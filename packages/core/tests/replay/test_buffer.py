import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_accountant import Accountant, RolloutSource

from rl_core.checkpoint import Checkpoint, save_checkpoint
from rl_core.errors import CheckpointError, ConfigError
from rl_core.records import Rollout
from rl_core.replay.buffer import ReplayBuffer
from rl_core.replay.priorities import PrioritySettings

GAMMA = 0.9


def make_rollout(obs, **columns):
    """A rollout from a tensor of observations `[T + 1, B, ...]`; the other columns have quiet defaults."""
    num_steps, num_slots = obs.shape[0] - 1, obs.shape[1]
    quiet = torch.zeros(num_steps, num_slots, dtype=torch.bool)
    values = {
        "action": torch.zeros(num_steps, num_slots, dtype=torch.int64),
        "reward": torch.ones(num_steps, num_slots),
        "terminated": quiet,
        "truncated": quiet,
        "valid": None,
        "final_index": torch.zeros(0, dtype=torch.int64),
        "final_obs": None,
        "behavior_dist_inputs": torch.zeros(num_steps, num_slots, 1),
        "policy_version": 0,
        "env_steps": num_steps * num_slots,
    }
    return Rollout(obs=obs, **(values | columns))


def flags(*values):
    return torch.tensor(values, dtype=torch.bool).unsqueeze(-1)


def count_up(num_steps, num_slots=1, first=0):
    size = (num_steps + 1) * num_slots
    return torch.arange(first * num_slots, first * num_slots + size).float().reshape(num_steps + 1, num_slots, 1)


def by_place(buffer, n_step, num=400):
    """Draw until every place has come; the fields of each place."""
    batch = buffer.sample(num, n_step=n_step, gamma=GAMMA)
    return {
        place: (round(reward, 4), next_obs, round(discount, 4))
        for place, reward, next_obs, discount in zip(
            batch.index.tolist(), batch.reward.tolist(), batch.next_obs[:, 0].tolist(), batch.discount.tolist(),
            strict=True,
        )
    }  # fmt: skip


def leaves(record):
    """All tensors of a record, nested ones too."""

    def walk(value):
        if isinstance(value, torch.Tensor):
            return [value]
        parts = value.values() if isinstance(value, dict) else value
        return [leaf for part in parts for leaf in walk(part)]

    return [leaf for field in dataclasses.fields(record) for leaf in walk(getattr(record, field.name))]


def assert_same(first, second):
    for one, other in zip(leaves(first), leaves(second), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_n_step_transitions_by_hand():
    buffer = ReplayBuffer(10, num_slots=1, seed=0)
    buffer.add(
        make_rollout(
            count_up(5),
            terminated=flags(0, 1, 0, 0, 0),
            truncated=flags(0, 0, 0, 1, 0),
            final_index=torch.tensor([3]),
            final_obs=torch.tensor([[77.0]]),
        )
    )
    assert by_place(buffer, 1) == {0: (1, 1, 0.9), 1: (1, 2, 0), 2: (1, 3, 0.9), 3: (1, 77, 0.9), 4: (1, 5, 0.9)}
    # From 0 it terminates within 2 steps, from 2 it is cut at 77, from 4 the data end.
    assert by_place(buffer, 3) == {0: (1.9, 2, 0), 1: (1, 2, 0), 2: (1.9, 77, 0.81), 3: (1, 77, 0.9), 4: (1, 5, 0.9)}


def fill_both(seed, same_step, capacity, num_slots, priorities, num_rollouts=12):
    rng = np.random.default_rng(seed)
    source = RolloutSource(num_slots, rng, same_step=same_step)
    buffer = ReplayBuffer(capacity, num_slots=num_slots, seed=seed, priorities=priorities)
    accountant = Accountant(capacity, num_slots)
    for _ in range(num_rollouts):
        rollout = source.rollout(int(rng.integers(1, 9)))
        buffer.add(rollout)
        accountant.add(rollout)
        yield buffer, accountant


schedules = given(
    seed=st.integers(0, 10_000),
    same_step=st.booleans(),
    capacity=st.integers(1, 40),
    num_slots=st.integers(1, 4),
    priorities=st.sampled_from([None, PrioritySettings()]),
)


@settings(max_examples=60)
@schedules
def test_transitions_are_those_of_a_literal_account(seed, same_step, capacity, num_slots, priorities):
    for buffer, account in fill_both(seed, same_step, capacity, num_slots, priorities):
        starts = account.starts()
        assert len(buffer) == len(starts)
        num_finals = sum(entry.final is not None for row in account.rows for entry in row)
        assert len(buffer.get_state()["ring"]["final_places"]) == num_finals  # none is kept for longer
        if not starts:
            continue
        for n_step in (1, 3, 50):
            batch = buffer.sample(16, n_step=n_step, gamma=GAMMA)
            columns = (batch.obs[:, 1], batch.action, batch.reward, batch.next_obs[:, 1], batch.discount)
            for place, *row in zip(batch.index.tolist(), *(column.tolist() for column in columns), strict=True):
                assert row == pytest.approx(account.transition(place, n_step, GAMMA), rel=1e-5, abs=1e-6)


@settings(max_examples=25)
@schedules
def test_a_range_of_steps_gives_each_number_of_steps_in_it(seed, same_step, capacity, num_slots, priorities):
    *_, (buffer, account) = fill_both(seed, same_step, capacity, num_slots, priorities)
    if not len(buffer):
        return
    batch = buffer.sample(300, n_step=(2, 4), gamma=GAMMA)
    drawn = {
        (place, round(reward, 3), following)
        for place, reward, following in zip(
            batch.index.tolist(), batch.reward.tolist(), batch.next_obs[:, 0].tolist(), strict=True
        )
    }
    expected = set()
    for place in account.starts():
        for n in (2, 3, 4):
            _, _, reward, following, _ = account.transition(place, n, GAMMA)
            expected.add((place, following))
    assert {(place, following) for place, _, following in drawn} <= expected
    for place, reward, following in drawn:
        literal = [account.transition(place, n, GAMMA) for n in (2, 3, 4)]
        assert any(following == each[3] and abs(reward - each[2]) < 2e-3 for each in literal)


def test_every_number_of_steps_of_a_range_is_drawn():
    buffer = ReplayBuffer(100, num_slots=1, seed=0)
    buffer.add(make_rollout(count_up(100)))
    batch = buffer.sample(3000, n_step=(2, 4), gamma=1.0)
    counts = torch.bincount(batch.reward[batch.index < 90].long(), minlength=5)
    assert counts[:2].tolist() == [0, 0]
    assert counts[2:].min() > 800


@settings(max_examples=40)
@schedules
def test_sequences_are_those_of_a_literal_account(seed, same_step, capacity, num_slots, priorities):
    length = 5
    for buffer, account in fill_both(seed, same_step, capacity, num_slots, priorities):
        if not len(buffer):
            continue
        batch = buffer.sample_sequences(8, length=length)
        assert batch.obs.shape == (length + 1, 8, 2)
        for column, place in enumerate(batch.index.tolist()):
            entries, valid, following = account.sequence(place, length)
            num = len(entries)
            rest = length - num
            assert batch.obs[:num, column, 1].tolist() == [entry.obs for entry in entries]
            assert batch.obs[num, column, 1] == following
            assert batch.action[:num, column].tolist() == [entry.action for entry in entries]
            assert batch.state[column, 0] == entries[0].state
            assert batch.valid[:, column].tolist() == valid + [False] * rest
            expected_reward = [entry.reward for entry in entries] + [0.0] * rest
            assert batch.reward[:, column].tolist() == pytest.approx(expected_reward)
            assert batch.terminated[:, column].tolist() == [entry.terminated for entry in entries] + [False] * rest
            assert batch.truncated[:, column].tolist() == [entry.truncated for entry in entries] + [False] * rest


@pytest.mark.parametrize("priorities", [None, PrioritySettings()])
@pytest.mark.parametrize("same_step", [True, False])
def test_every_real_step_and_no_other_is_drawn(priorities, same_step):
    for buffer, account in fill_both(3, same_step, 30, 3, priorities):
        batch = buffer.sample(2000, n_step=1, gamma=GAMMA)
        assert set(batch.index.tolist()) == set(account.starts())


def test_a_few_real_steps_among_many_others_are_drawn_evenly():
    valid = torch.zeros(1000, 1, dtype=torch.bool)
    valid[[10, 500, 990]] = True
    buffer = ReplayBuffer(1000, num_slots=1, seed=0)
    buffer.add(make_rollout(count_up(1000), valid=valid))
    assert len(buffer) == 3
    places, counts = buffer.sample(3000, n_step=2, gamma=GAMMA).index.unique(return_counts=True)
    assert places.tolist() == [10, 500, 990]
    assert counts.min() > 900


def test_uniform_draws_are_even_over_all_rows_once_the_ring_has_gone_around():
    buffer = ReplayBuffer(20, num_slots=2, seed=0)
    for part in range(5):
        buffer.add(make_rollout(count_up(3, 2, first=3 * part)))
    batch = buffer.sample(20_000, n_step=1, gamma=GAMMA)
    values, counts = batch.obs[:, 0].unique(return_counts=True)
    assert values.tolist() == list(range(10, 30))
    assert ((counts - 1000) ** 2 / 1000).sum() < 44  # chi-square, 19 degrees of freedom, p = 0.001
    assert torch.equal(batch.weight, torch.ones(20_000))


def test_a_rollout_that_does_not_go_on_from_the_last_one_truncates_it():
    buffer = ReplayBuffer(20, num_slots=2, seed=0)
    buffer.add(make_rollout(count_up(2, 2)))
    other = count_up(2, 2, first=2)
    other[0, 1] = 99.0  # slot 1 begins anew
    buffer.add(make_rollout(other))
    drawn = by_place(buffer, 2)
    assert drawn[2] == (1.9, 6, 0.81)
    assert drawn[3] == (1, 5, 0.9)
    sequences = buffer.sample_sequences(200, length=2)
    assert not sequences.valid[0, sequences.index == 3].any()
    assert sequences.truncated[0, sequences.index == 3].all()
    assert sequences.valid[:, sequences.index == 2].all()


def nested_rollout(num_steps, first=0):
    number = count_up(num_steps, 2, first)
    return dataclasses.replace(
        make_rollout(number),
        obs={"image": number.to(torch.uint8).reshape(-1, 2, 1, 1).repeat(1, 1, 3, 3), "rest": (number, number.long())},
        action=({"a": number[:-1].double()}, number[:-1, :, 0].long()),
        truncated=torch.ones(num_steps, 2, dtype=torch.bool),
        final_index=torch.tensor([0]),
        final_obs={
            "rest": (torch.tensor([[-5.0]]), torch.tensor([[-6]])),
            "image": torch.full((1, 3, 3), 200, dtype=torch.uint8),
        },
    )


def test_nested_observations_and_actions_keep_their_dtypes_and_stay_together():
    buffer = ReplayBuffer(12, num_slots=2, seed=0)
    buffer.add(nested_rollout(5))
    batch = buffer.sample(100, n_step=1, gamma=GAMMA)
    number = batch.obs["rest"][0]
    assert batch.obs["image"].dtype == torch.uint8
    assert batch.action[0]["a"].dtype == torch.float64
    assert torch.equal(batch.obs["image"].float(), number.unsqueeze(-1).expand(-1, 3, 3))
    assert torch.equal(batch.obs["rest"][1], number.long())
    assert torch.equal(batch.action[0]["a"], number.double())
    assert torch.equal(batch.action[1], number[:, 0].long())
    final = batch.index == 0
    assert final.any()
    assert (batch.next_obs["image"][final] == 200).all()
    assert (batch.next_obs["rest"][1][final] == -6).all()
    assert torch.equal(batch.next_obs["rest"][0][~final], number[~final] + 2)


def test_what_is_drawn_is_a_copy():
    buffer = ReplayBuffer(4, num_slots=1, seed=0)
    buffer.add(make_rollout(count_up(4)))
    before = by_place(buffer, 1)
    for leaf in leaves(buffer.sample(8, n_step=1, gamma=GAMMA)):
        leaf.fill_(0)
    assert by_place(buffer, 1) == before


def test_priorities_decide_how_often_a_transition_comes_and_weights_undo_it():
    buffer = ReplayBuffer(4, num_slots=1, seed=0, priorities=PrioritySettings(alpha=0.5, epsilon=1e-9))
    buffer.add(make_rollout(count_up(4)))
    buffer.update_priorities(torch.arange(4), torch.tensor([1.0, 4.0, 9.0, 16.0]))
    batch = buffer.sample(10_000, n_step=1, gamma=GAMMA, beta=0.7)
    counts = torch.bincount(batch.index)
    assert (counts - torch.tensor([1000, 2000, 3000, 4000])).abs().max() <= 1  # stratified
    expected = torch.tensor([1.0, 2.0, 3.0, 4.0])[batch.index] ** -0.7
    assert torch.allclose(batch.weight, expected)
    # A new transition comes as often as the most urgent one so far, and the overwritten one is gone.
    buffer.add(make_rollout(count_up(1, first=4)))
    counts = torch.bincount(buffer.sample(13_000, n_step=1, gamma=GAMMA).index)
    assert (counts - torch.tensor([0, 2000, 3000, 4000, 4000])).abs().max() <= 1


def test_steps_that_are_not_real_cannot_be_given_a_priority():
    buffer = ReplayBuffer(4, num_slots=1, seed=0, priorities=PrioritySettings())
    buffer.add(make_rollout(count_up(3), valid=flags(1, 0, 1)))
    buffer.update_priorities(torch.arange(4), torch.full((4,), 5.0))
    assert set(buffer.sample(100, n_step=1, gamma=GAMMA).index.tolist()) == {0, 2}


def draws(buffer):
    for _ in range(3):
        yield buffer.sample(16, n_step=1, gamma=GAMMA)
        yield buffer.sample(16, n_step=(1, 4), gamma=GAMMA, beta=0.5)
        yield buffer.sample_sequences(5, length=6)


def go_on(buffer, rollouts):
    """Add, draw, set priorities; all that was drawn."""
    drawn = list(draws(buffer)) if len(buffer) else []
    for rollout in rollouts:
        buffer.add(rollout)
        drawn += draws(buffer)
        if buffer.priorities:
            buffer.update_priorities(drawn[-2].index, drawn[-2].reward.abs())
    return drawn


@pytest.mark.parametrize("num_rollouts", [0, 1, 2, 9])
@pytest.mark.parametrize("priorities", [None, PrioritySettings()])
@pytest.mark.parametrize("same_step", [True, False])
def test_a_restored_buffer_goes_on_bit_for_bit(tmp_path, num_rollouts, priorities, same_step):
    def make(folder=None):
        return ReplayBuffer(40, num_slots=2, seed=7, priorities=priorities, folder=folder)

    source = RolloutSource(2, np.random.default_rng(1), same_step=same_step)
    buffer = make()
    for _ in range(num_rollouts):
        buffer.add(source.rollout(7))
        if priorities:
            index = buffer.sample(20, n_step=1, gamma=GAMMA).index
            buffer.update_priorities(index, torch.linspace(0, 3, 20))
    save_checkpoint(tmp_path / "checkpoint", {"replay": buffer.get_state()})
    state = Checkpoint(tmp_path / "checkpoint").load("replay")
    restored, used, in_files = make(), make(), make(tmp_path / "files")
    other = RolloutSource(2, np.random.default_rng(2), same_step=True)
    for _ in range(8):
        used.add(other.rollout(5))
    restored.set_state(state)
    used.set_state(state)
    in_files.set_state(state)
    assert len(restored) == len(used) == len(in_files) == len(buffer)
    rollouts = [source.rollout(4) for _ in range(5)]
    expected, *others = [go_on(each, rollouts) for each in (buffer, restored, used, in_files)]
    for got in others:
        assert len(got) == len(expected)
        for one, other in zip(expected, got, strict=True):
            assert_same(one, other)


def test_a_state_holds_filled_rows_only_and_does_not_change_later():
    buffer = ReplayBuffer(1000, num_slots=2, seed=0)
    buffer.add(make_rollout(count_up(3, 2)))
    state = buffer.get_state()
    assert state["ring"]["obs"].shape == (4, 2, 1)
    buffer.add(make_rollout(count_up(1200, 2, first=3)))
    assert torch.equal(state["ring"]["obs"], count_up(3, 2))


def filled(**changes):
    buffer = ReplayBuffer(**({"capacity": 10, "num_slots": 1, "seed": 0} | changes))
    buffer.add(make_rollout(count_up(3, buffer.num_slots)))
    return buffer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": 11}, "capacity = 11, this one 10"),
        ({"num_slots": 2}, "num_slots = 2, this one 1"),
        ({"priorities": PrioritySettings()}, "priorities = .*'alpha': 0.6.* this one None"),
    ],
)
def test_a_state_of_other_settings_is_refused(changes, message):
    with pytest.raises(CheckpointError, match=message):
        filled().set_state(filled(**changes).get_state())


def test_a_state_of_other_shapes_is_refused_and_so_is_a_rollout_after_it():
    other = ReplayBuffer(10, num_slots=1, seed=0)
    other.add(make_rollout(torch.zeros(4, 1, 3)))
    buffer = filled()
    with pytest.raises(CheckpointError, match=r"obs has rows float32\[1, 3\], but rows float32\[1, 1\]"):
        buffer.set_state(other.get_state())
    assert len(buffer) == 3
    fresh = ReplayBuffer(10, num_slots=1, seed=0)
    fresh.set_state(other.get_state())
    with pytest.raises(ValueError, match=r"obs has rows float32\[1, 1\], but rows float32\[1, 3\]"):
        fresh.add(make_rollout(count_up(2)))


def test_a_state_that_contradicts_itself_is_refused():
    state = filled().get_state()
    state["ring"]["reward"] = state["ring"]["reward"][:-1]
    with pytest.raises(CheckpointError, match="contradicts itself"):
        filled().set_state(state)


def test_a_rollout_nested_otherwise_is_refused_after_a_restore():
    saved = ReplayBuffer(12, num_slots=2, seed=0)
    saved.add(nested_rollout(3))
    for obs in (count_up(3, 2), {"image": count_up(3, 2)}):
        buffer = ReplayBuffer(12, num_slots=2, seed=0)
        buffer.set_state(saved.get_state())
        with pytest.raises(ValueError, match="obs"):
            buffer.add(dataclasses.replace(nested_rollout(3), obs=obs))


def test_mistakes_are_explained():
    buffer = ReplayBuffer(10, num_slots=1, seed=0)
    with pytest.raises(ValueError, match="nothing to draw yet"):
        buffer.sample(1, n_step=1, gamma=GAMMA)
    with pytest.raises(ValueError, match="2 env slots, the buffer was made for 1"):
        buffer.add(make_rollout(count_up(2, 2)))
    buffer.add(make_rollout(count_up(3)))
    for n_step in (0, (0, 3), (3, 2)):
        with pytest.raises(ValueError, match="n_step: got"):
            buffer.sample(1, n_step=n_step, gamma=GAMMA)
    with pytest.raises(ValueError, match="length: got 0"):
        buffer.sample_sequences(1, length=0)
    with pytest.raises(ValueError, match="draws uniformly"):
        buffer.update_priorities(torch.tensor([0]), torch.tensor([1.0]))
    for name in ("capacity", "num_slots"):
        with pytest.raises(ConfigError, match=f"{name}: got 0, expected"):
            ReplayBuffer(**({"capacity": 1, "num_slots": 1, "seed": 0} | {name: 0}))


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_priorities_that_make_no_sense_are_refused(value):
    buffer = filled(priorities=PrioritySettings())
    with pytest.raises(ValueError, match="negative or not finite"):
        buffer.update_priorities(torch.tensor([0, 1]), torch.tensor([1.0, value]))


def test_a_buffer_that_does_not_fit_says_what_is_asked_for_and_what_to_do():
    buffer = ReplayBuffer(10**12, num_slots=1, seed=0)
    with pytest.raises(
        ConfigError, match=r"1,000,000,000,000 transitions of 21.0 bytes .* GiB\), but only .*smaller replay"
    ):
        buffer.add(make_rollout(count_up(3)))
    assert len(buffer) == 0


@pytest.mark.parametrize("priorities", [None, PrioritySettings()])
def test_a_buffer_in_files_gives_the_same_as_one_in_memory(tmp_path, priorities):
    buffers = [
        ReplayBuffer(60, num_slots=3, seed=5, priorities=priorities, folder=folder)
        for folder in (None, tmp_path / "replay")
    ]
    results = []
    for buffer in buffers:
        source = RolloutSource(3, np.random.default_rng(4), same_step=True)
        for _ in range(6):
            buffer.add(source.rollout(8))
        results.append(go_on(buffer, [source.rollout(8) for _ in range(3)]))
    for one, other in zip(*results, strict=True):
        assert_same(one, other)
    assert buffers[0].nbytes == buffers[1].nbytes > 0
    assert (tmp_path / "replay" / "obs.0.bin").stat().st_size == 21 * 3 * 2 * 4
    # Another buffer in the same folder leaves this one's data alone.
    expected = buffers[0].sample(50, n_step=1, gamma=GAMMA)
    ReplayBuffer(60, num_slots=3, seed=5, folder=tmp_path / "replay").add(source.rollout(8))
    assert_same(expected, buffers[1].sample(50, n_step=1, gamma=GAMMA))
