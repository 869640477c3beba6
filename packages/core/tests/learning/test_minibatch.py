import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_core.learning.minibatch import minibatches
from rl_core.records import Batch


def make_batch(size):
    number = torch.arange(size, dtype=torch.float32)
    return Batch(
        obs={"a": number.unsqueeze(-1).expand(size, 2), "b": (number.long(), number + 0.5)},
        action=number.long(),
        behavior_log_prob=number,
        behavior_dist_inputs=number.unsqueeze(-1),
        behavior_value=number,
        advantage=number,
        value_target=number,
    )


def draw(size, minibatch_size, num_epochs=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return list(minibatches(make_batch(size), size=minibatch_size, num_epochs=num_epochs, generator=generator))


@settings(max_examples=60)
@given(size=st.integers(1, 200), minibatch_size=st.integers(1, 220), num_epochs=st.integers(1, 3))
def test_every_sample_comes_once_per_epoch_in_minibatches_of_even_size(size, minibatch_size, num_epochs):
    drawn = draw(size, minibatch_size, num_epochs)
    per_epoch = -(-size // minibatch_size)
    assert len(drawn) == per_epoch * num_epochs
    for epoch in range(num_epochs):
        parts = [part.advantage for part in drawn[epoch * per_epoch : (epoch + 1) * per_epoch]]
        assert torch.cat(parts).sort().values.tolist() == list(range(size))
        lengths = [len(part) for part in parts]
        assert max(lengths) <= minibatch_size
        assert max(lengths) - min(lengths) <= 1


def test_columns_and_nested_observations_stay_together():
    for part in draw(20, 6):
        index = part.advantage
        for column in (part.behavior_log_prob, part.behavior_value, part.value_target, part.obs["a"][:, 0]):
            assert torch.equal(column, index)
        assert torch.equal(part.obs["a"][:, 1], index)
        assert torch.equal(part.obs["b"][0], index.long())
        assert torch.equal(part.obs["b"][1], index + 0.5)
        assert torch.equal(part.behavior_dist_inputs, index.unsqueeze(-1))
        assert torch.equal(part.action, index.long())


def test_order_follows_from_the_generator_and_differs_between_epochs():
    first, again, other = (torch.cat([p.advantage for p in draw(50, 10, 2, seed)]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:50], first[50:])


def test_one_epoch_draws_once_from_the_generator_whatever_the_size():
    states = []
    for size in (3, 10):
        generator = torch.Generator().manual_seed(0)
        list(minibatches(make_batch(10), size=size, num_epochs=2, generator=generator))
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_the_batch_is_left_alone():
    batch = make_batch(10)
    for part in minibatches(batch, size=5, num_epochs=1, generator=torch.Generator()):
        part.advantage.fill_(-1)
    assert batch.advantage.tolist() == list(range(10))


def test_an_empty_batch_yields_nothing():
    assert draw(0, 4) == []


@pytest.mark.parametrize("size", [1, 64])
def test_a_minibatch_as_large_as_the_batch_is_the_whole_batch(size):
    (part,) = draw(size, 64)
    assert len(part.advantage) == size
