import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_core.learning.minibatch import minibatches
from rl_core.learning.segments import cut_segments, segment_minibatches
from rl_core.records import Batch


def cut_plainly(done, valid, length):
    """The same, step by step, as lists without padding."""
    segments = []
    num_steps, num_slots = done.shape
    for slot in range(num_slots):
        segment = []
        for time in range(num_steps):
            if valid is None or valid[time, slot]:
                segment.append(time * num_slots + slot)
            ends = done[time, slot] or (valid is not None and not valid[time, slot])
            if segment and (ends or len(segment) == length or time == num_steps - 1):
                segments.append(segment)
                segment = []
    return segments


def without_padding(segments):
    return [[step for step in segment if step >= 0] for segment in segments.tolist()]


@st.composite
def rollouts(draw):
    """`(done, valid or None, length)` with ends and artificial steps anywhere."""
    num_steps, num_slots = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    size = num_steps * num_slots
    flags = st.lists(st.sampled_from([False, False, True]), min_size=size, max_size=size)
    done = torch.tensor(draw(flags)).view(num_steps, num_slots)
    valid = ~torch.tensor(draw(flags)).view(num_steps, num_slots) if draw(st.booleans()) else None
    return done, valid, draw(st.integers(1, 14))


def test_a_rollout_is_cut_at_ends_of_episodes_at_artificial_steps_and_at_the_length():
    done = torch.tensor([[0, 0], [0, 1], [1, 0], [0, 0], [0, 0], [0, 0]]).bool()
    valid = torch.tensor([[1, 1], [1, 1], [1, 0], [0, 1], [1, 1], [1, 1]]).bool()
    assert cut_segments(done, valid, 2).tolist() == [[0, 2], [4, -1], [8, 10], [1, 3], [7, 9], [11, -1]]
    assert cut_segments(done, None, 4).tolist() == [[0, 2, 4, -1], [6, 8, 10, -1], [1, 3, -1, -1], [5, 7, 9, 11]]


@settings(max_examples=200)
@given(rollouts())
def test_segments_are_those_of_a_plain_loop(rollout):
    done, valid, length = rollout
    segments = cut_segments(done, valid, length)
    assert segments.dtype == torch.int64
    assert segments.shape[1] == length
    assert without_padding(segments) == cut_plainly(done, valid, length)


@settings(max_examples=200)
@given(rollouts())
def test_every_real_step_is_in_one_segment_of_one_episode_in_order(rollout):
    done, valid, length = rollout
    num_slots = done.shape[1]
    segments = cut_segments(done, valid, length)
    inside = segments >= 0
    assert inside[:, 0].all(), "no segment is empty"
    assert (inside[:, :-1] | ~inside[:, 1:]).all(), "padding stands at the end only"
    real = torch.ones_like(done) if valid is None else valid
    assert segments[inside].sort().values.tolist() == real.flatten().nonzero().flatten().tolist()
    for steps in without_padding(segments):
        assert 1 <= len(steps) <= length
        assert [step - steps[0] for step in steps] == [num_slots * place for place in range(len(steps))], "one slot"
        assert not done.flatten()[steps[:-1]].any(), "an episode ends nowhere but at the end of a segment"


def test_a_rollout_without_a_real_step_has_no_segments():
    nothing = torch.zeros(3, 2, dtype=torch.bool)
    assert cut_segments(nothing, nothing, 4).shape == (0, 4)


# Minibatches ----------------------------------------------------------------------------------------------------------


def make_batch(done, valid, length):
    """Every column holds the number of its sample."""
    number = torch.arange(done.numel(), dtype=torch.float32)
    return Batch(
        obs={"a": number.unsqueeze(-1).expand(-1, 2), "b": (number.long(),)},
        action=(number.long(), {"part": number}),
        behavior_log_prob=number,
        behavior_dist_inputs=number.unsqueeze(-1),
        behavior_value=number,
        advantage=number,
        value_target=number,
        state={"hidden": number.unsqueeze(-1).expand(-1, 3), "cell": (number,)},
        segments=cut_segments(done, valid, length),
    )


def draw_parts(batch, size, num_epochs=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return list(segment_minibatches(batch, size=size, num_epochs=num_epochs, generator=generator))


@settings(max_examples=100)
@given(rollouts(), st.integers(1, 40), st.integers(1, 3))
def test_every_segment_comes_once_per_epoch_whole(rollout, size, num_epochs):
    batch = make_batch(*rollout)
    expected = sorted(without_padding(batch.segments))
    parts = draw_parts(batch, size, num_epochs)
    num_samples = sum(map(len, expected))
    per_epoch = min(-(-num_samples // size), len(expected))
    assert len(parts) == per_epoch * num_epochs
    for epoch in range(num_epochs):
        found = []
        for part in parts[epoch * per_epoch : (epoch + 1) * per_epoch]:
            num_steps, num_segments = part.obs["b"][0].shape
            real = torch.zeros(num_steps * num_segments, dtype=torch.bool)
            real[part.real] = True
            real = real.view(num_steps, num_segments)
            assert real.any(1).all(), "no longer than its longest segment"
            found += [part.obs["b"][0][:, place][real[:, place]].tolist() for place in range(num_segments)]
        assert sorted(found) == expected


@settings(max_examples=100)
@given(rollouts(), st.integers(1, 40))
def test_real_picks_the_samples_in_the_order_of_the_other_columns(rollout, size):
    for part in draw_parts(make_batch(*rollout), size):
        number = part.advantage
        assert torch.equal(part.obs["b"][0].flatten()[part.real], number.long())
        assert torch.equal(part.obs["a"].flatten(0, 1)[part.real], number.unsqueeze(-1).expand(-1, 2))
        for column in (part.behavior_log_prob, part.behavior_value, part.value_target, part.action[1]["part"]):
            assert torch.equal(column, number)
        assert torch.equal(part.behavior_dist_inputs.squeeze(-1), number)
        assert torch.equal(part.action[0], number.long())
        assert part.segments is None


@settings(max_examples=100)
@given(rollouts(), st.integers(1, 40))
def test_padding_repeats_the_segments_first_step_and_the_state_is_that_before_it(rollout, size):
    for part in draw_parts(make_batch(*rollout), size):
        number = part.obs["b"][0]
        real = torch.zeros(number.numel(), dtype=torch.bool)
        real[part.real] = True
        first = number[0].expand_as(number)
        assert torch.equal(number[~real.view_as(number)], first[~real.view_as(number)])
        assert torch.equal(part.state["cell"][0], number[0].float())
        assert torch.equal(part.state["hidden"], number[0].float().unsqueeze(-1).expand(-1, 3))


def test_minibatches_have_even_numbers_of_segments_and_on_average_at_most_the_size():
    batch = make_batch(torch.zeros(20, 5, dtype=torch.bool), None, 4)
    for size in (7, 16, 30, 100):
        parts = draw_parts(batch, size)
        counts = [part.obs["b"][0].shape[1] for part in parts]
        assert sum(counts) == 25
        assert max(counts) - min(counts) <= 1
        assert sum(len(part.advantage) for part in parts) / len(parts) <= size


def test_a_size_below_one_segment_gives_single_segments():
    parts = draw_parts(make_batch(torch.zeros(8, 2, dtype=torch.bool), None, 4), 1)
    assert [len(part.advantage) for part in parts] == [4] * 4


def test_order_follows_from_the_generator_and_differs_between_epochs():
    batch = make_batch(torch.zeros(40, 2, dtype=torch.bool), None, 2)
    first, again, other = (torch.cat([part.advantage for part in draw_parts(batch, 8, 2, seed)]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:80], first[80:])


@pytest.mark.parametrize("size", [1, 8])
def test_without_segments_there_are_no_minibatches(size):
    nothing = torch.zeros(3, 2, dtype=torch.bool)
    assert draw_parts(make_batch(nothing, nothing, 4), size) == []


def test_minibatches_of_a_batch_with_segments_are_those_of_its_segments():
    batch = make_batch(torch.zeros(6, 2, dtype=torch.bool), None, 4)
    generator = torch.Generator().manual_seed(3)
    parts = list(minibatches(batch, size=4, num_epochs=2, generator=generator))
    for one, two in zip(parts, draw_parts(batch, 4, 2, seed=3), strict=True):
        for field in ("advantage", "real"):
            assert torch.equal(getattr(one, field), getattr(two, field))


def test_the_batch_is_left_alone():
    batch = make_batch(torch.zeros(6, 2, dtype=torch.bool), None, 4)
    before = dataclasses.replace(batch, advantage=batch.advantage.clone(), segments=batch.segments.clone())
    for part in draw_parts(batch, 4):
        part.advantage.fill_(-1)
        part.obs["b"][0].fill_(-1)
        part.state["cell"][0].fill_(-1)
    assert torch.equal(batch.advantage, before.advantage)
    assert torch.equal(batch.segments, before.segments)
    assert batch.obs["b"][0].tolist() == list(range(12))
    assert batch.state["cell"][0].tolist() == list(range(12))
