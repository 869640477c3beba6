import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rl_core.module.memory import make_memory
from rl_core.module.settings import ModelSettings
from rl_core.tree import tree_leaves, tree_map

ATTENTION = {"attention_window": 3, "attention_dim": 8, "attention_num_heads": 2, "attention_num_layers": 2}
SETTINGS = {
    "lstm": ModelSettings(use_lstm=True, lstm_cell_size=6),
    "gru": ModelSettings(use_gru=True, lstm_cell_size=6),
    "attention": ModelSettings(use_attention=True, **ATTENTION),
}


def memory_of(kind, **changes):
    torch.manual_seed(0)
    memory = make_memory(5, ModelSettings(**{f"use_{kind}": True, "lstm_cell_size": 6, **ATTENTION, **changes}))
    with torch.no_grad():
        for parameter in memory.parameters():  # off zero, also the biases
            parameter.add_(0.3 * torch.randn_like(parameter))
    return memory


def steps(memory, features, state):
    outputs = []
    for row in features:
        output, state = memory.step(row, state)
        outputs.append(output)
    return torch.stack(outputs), state


def test_without_a_memory_there_is_none():
    assert make_memory(5, ModelSettings()) is None


@pytest.mark.parametrize(("kind", "layer"), [("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_gated_memories_compute_what_torch_computes(kind, layer):
    memory, reference = memory_of(kind), layer(5, 6)
    reference.load_state_dict({f"{name}_l0": tensor for name, tensor in memory.state_dict().items()})
    features, state = torch.randn(7, 3, 5), tuple(torch.randn(3, 6) for _ in memory.initial_state(3))
    before = tuple(leaf[None] for leaf in state)
    expected, after = reference(features, before if kind == "lstm" else before[0])
    torch.testing.assert_close(memory.sequence(features, state), expected)
    outputs, end = steps(memory, features, state)
    torch.testing.assert_close(outputs, expected, atol=1e-6, rtol=1e-5)
    for mine, theirs in zip(end, after if kind == "lstm" else (after,), strict=True):
        torch.testing.assert_close(mine, theirs[0])


@pytest.mark.parametrize("kind", SETTINGS)
@given(length=st.integers(1, 9), earlier=st.integers(0, 6), seed=st.integers(0, 1000))
def test_a_sequence_is_its_steps_from_any_state(kind, length, earlier, seed):
    memory, generator = memory_of(kind), torch.Generator().manual_seed(seed)
    features = torch.randn(earlier + length, 2, 5, generator=generator)
    with torch.no_grad():
        state = memory.initial_state(2)
        for row in features[:earlier]:
            _, state = memory.step(row, state)
        expected, _ = steps(memory, features[earlier:], state)
        result = memory.sequence(features[earlier:], state)
    assert result.shape == (length, 2, memory.num_features)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", SETTINGS)
def test_gradients_of_a_sequence_are_those_of_its_steps(kind):
    memory, features = memory_of(kind), torch.randn(6, 2, 5)
    gradients = []
    weight = torch.randn(6, 2, memory.num_features)
    for run in (memory.sequence, lambda *args: steps(memory, *args)[0]):
        memory.zero_grad()
        (run(features, memory.initial_state(2)) * weight).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in memory.parameters()])
    for first, second in zip(*gradients, strict=True):
        assert first.any()
        torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", SETTINGS)
def test_rows_start_independently_with_zeros(kind):
    memory = memory_of(kind)
    state = memory.initial_state(4)
    assert all(leaf.shape[0] == 4 and not leaf.any() for leaf in tree_leaves(state))
    _, used = steps(memory, torch.randn(5, 4, 5), state)
    restarted = tree_map(lambda leaf, zero: torch.cat((zero[:2], leaf[2:])), used, state)
    features = torch.randn(4, 5)
    torch.testing.assert_close(memory.step(features, restarted)[0][:2], memory.step(features, state)[0][:2])


@pytest.mark.parametrize("kind", SETTINGS)
def test_later_steps_do_not_change_earlier_outputs(kind):
    memory, features = memory_of(kind), torch.randn(6, 2, 5)
    padded = torch.cat((features[:4], torch.full((2, 2, 5), 100.0)))
    state = memory.initial_state(2)
    torch.testing.assert_close(memory.sequence(padded, state)[:4], memory.sequence(features, state)[:4])


def test_initial_weights_follow_the_settings():
    memory = make_memory(6, SETTINGS["lstm"])
    torch.testing.assert_close(memory.weight_hh.T @ memory.weight_hh, torch.eye(6))
    assert not memory.bias_ih.any()
    own = ModelSettings(use_gru=True, lstm_cell_size=4, initializer="torch", lstm_bias_initializer="ones")
    memory = make_memory(600, own)
    assert 0.4 < memory.weight_ih.abs().max() <= 0.5  # by the units, as nn.GRU does, not by the inputs
    assert (memory.bias_hh == 1).all()


def naive_attention(memory, features):
    """Compute the outputs of one row `[L, F]` with loops, from the parameters alone."""
    inputs = memory.embed(features)
    for layer in memory.layers:
        outputs = []
        for t, x in enumerate(inputs):
            seen = range(max(0, t - memory.window), t + 1)
            query = layer.query(layer.attention_norm(x))
            heads = []
            for head in range(layer.num_heads):
                size = len(x) // layer.num_heads
                part = slice(head * size, (head + 1) * size)
                pairs = [layer.key_value(layer.attention_norm(inputs[s])).chunk(2) for s in seen]
                scores = [
                    query[part] @ key[part] / math.sqrt(size) + layer.distance_bias[head, t - s]
                    for s, (key, _) in zip(seen, pairs, strict=True)
                ]
                weights = torch.stack(scores).softmax(0)
                heads.append(sum(w * value[part] for w, (_, value) in zip(weights, pairs, strict=True)))
            y = x + layer.output(torch.cat(heads))
            outputs.append(y + layer.dense(layer.dense_norm(y)))
        inputs = torch.stack(outputs)
    return inputs


def test_attention_is_the_loop_over_a_window():
    memory, features = memory_of("attention"), torch.randn(9, 2, 5)
    result = memory.sequence(features, memory.initial_state(2))
    for row in range(2):
        torch.testing.assert_close(result[:, row], naive_attention(memory, features[:, row]), atol=1e-5, rtol=1e-5)


def test_one_layer_of_attention_forgets_what_left_its_window():
    memory, features = memory_of("attention", attention_num_layers=1), torch.randn(9, 1, 5)
    changed = features.clone()
    changed[0] += 1
    first, second = (memory.sequence(x, memory.initial_state(1)) for x in (features, changed))
    different = (first - second).abs().amax((1, 2)) > 1e-6
    assert different.tolist() == [True] * 4 + [False] * 5  # the step itself and those that look 3 back
