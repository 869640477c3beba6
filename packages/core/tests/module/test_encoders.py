import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.nn import functional

from rl_core.env.spaces import flatten_batch
from rl_core.errors import UnsupportedSpaceError
from rl_core.module.encoders import FusionEncoder, ToVector, _VectorEncoder, make_encoder
from rl_core.module.images import CNN, ImpalaCNN
from rl_core.module.networks import MLP, NormedMLP
from rl_core.module.settings import ModelSettings

IMAGE = spaces.Box(0, 255, (12, 10, 3), np.uint8)
BOARD = spaces.Box(0, 1, (3, 3, 2), np.int8)
VECTOR = spaces.Box(-1, 1, (4,))


def sample(space, count):
    space.seed(0)
    return [space.sample() for _ in range(count)]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, ()),
        spaces.Box(-1, 1, (2, 3)),
        spaces.Box(0, 9, (3,), np.int64),
        spaces.Discrete(4, start=-1),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiDiscrete(np.array([[2, 3], [4, 1]]), start=np.array([[1, 0], [-2, 5]])),
        spaces.MultiBinary(3),
        spaces.MultiBinary((2, 2)),
    ],
    ids=str,
)
def test_vectors_are_those_of_the_flattening_connector(space):
    batch = np.stack(sample(space, 6))
    network = ToVector(space)
    expected = torch.from_numpy(flatten_batch(space, batch, 1))
    vectors = network(torch.from_numpy(batch))
    assert vectors.dtype == torch.float32
    assert torch.equal(vectors, expected)
    assert network.num_features == expected.shape[-1]
    assert torch.equal(network(torch.from_numpy(batch).reshape(2, 3, *batch.shape[1:])), expected.reshape(2, 3, -1))


@pytest.mark.parametrize(
    "space", [spaces.Text(3), spaces.Box(-1, 1, (0,)), spaces.Dict(), spaces.Tuple((spaces.Text(2),))]
)
def test_spaces_without_encoder_are_refused_with_advice(space):
    with pytest.raises(UnsupportedSpaceError, match=r"expected a Box.*FlattenObservation"):
        make_encoder(space, ModelSettings())


@pytest.mark.parametrize(
    ("space", "settings", "kind", "num_features"),
    [
        (VECTOR, ModelSettings(), MLP, 64),
        (VECTOR, ModelSettings(fcnet_hiddens=()), MLP, 4),
        (VECTOR, ModelSettings(fcnet_use_layernorm=True, fcnet_hiddens=(7,)), NormedMLP, 7),
        (IMAGE, ModelSettings(), CNN, 128),
        (IMAGE, ModelSettings(conv_architecture="impala", conv_channels=(2,)), ImpalaCNN, 256),
        (BOARD, ModelSettings(), _VectorEncoder, 64),
        (BOARD, ModelSettings(conv_filters=((4, 2, 1),), post_fcnet_hiddens=()), CNN, 16),
        (BOARD, ModelSettings(conv_architecture="impala", conv_channels=(2,)), ImpalaCNN, 256),
        (spaces.Dict(a=IMAGE), ModelSettings(), FusionEncoder, 128),
        (spaces.Tuple((VECTOR, spaces.Discrete(3))), ModelSettings(fusionnet_hiddens=()), FusionEncoder, 67),
    ],
)
def test_the_space_chooses_the_encoder(space, settings, kind, num_features):
    encoder = make_encoder(space, settings)
    assert isinstance(encoder, kind)
    assert encoder.num_features == num_features


def test_fusion_joins_what_the_encoders_of_the_parts_give_whatever_the_order_of_the_keys():
    space = spaces.Dict(
        b=VECTOR, a=spaces.Tuple((IMAGE, spaces.Discrete(3))), c=spaces.Box(0, 255, (2, 2, 1), np.uint8)
    )
    encoder = make_encoder(space, ModelSettings(fusionnet_hiddens=(5,), fusionnet_activation="linear"))
    image = torch.randint(256, (2, 12, 10, 3), dtype=torch.uint8)
    tiny = torch.randint(256, (2, 2, 2, 1), dtype=torch.uint8)
    vector, choice = torch.randn(2, 4), torch.tensor([0, 2])
    cnn, one_hot, mlp, tiny_mlp = encoder.parts
    joined = torch.cat((cnn(image), one_hot(choice), mlp(vector), tiny_mlp(tiny)), -1)
    expected = joined @ encoder.fusion.weight_0.T + encoder.fusion.bias_0
    torch.testing.assert_close(encoder({"c": tiny, "a": (image, choice), "b": vector}), expected)
    assert torch.equal(one_hot(choice), torch.tensor([[1.0, 0, 0], [0, 0, 1]]))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_impala_has_the_size_of_the_paper():
    network = make_encoder(spaces.Box(0, 255, (84, 84, 4), np.uint8), ModelSettings(conv_architecture="impala"))

    def section(num_in, num_out):
        return (9 * num_in + 1) * num_out + 4 * (9 * num_out + 1) * num_out

    # 84 -> 42 -> 21 -> 11 pixels
    assert count(network) == section(4, 16) + section(16, 32) + section(32, 32) + (11 * 11 * 32 + 1) * 256
    assert sum(isinstance(part, nn.Conv2d) for part in network.modules()) == 15


@pytest.mark.parametrize("shape", [(12, 10, 3), (3, 12, 10), (5, 5, 1)])
def test_impala_computes_what_the_paper_draws(shape):
    space = spaces.Box(0, 255, shape, np.uint8)
    network = make_encoder(
        space, ModelSettings(conv_architecture="impala", conv_channels=(4, 6), post_fcnet_hiddens=(7,))
    )
    image = torch.from_numpy(np.stack(sample(space, 3)))
    x = (image if shape[0] == 3 else image.permute(0, 3, 1, 2)) / 255.0
    convolutions = iter(part for part in network.modules() if isinstance(part, nn.Conv2d))

    def convolve(x):
        layer = next(convolutions)
        return functional.conv2d(x, layer.weight, layer.bias, padding=1)

    for _ in range(2):
        x = functional.max_pool2d(convolve(x), 3, 2, 1)
        for _ in range(2):
            x = x + convolve(convolve(x.relu()).relu())
    x = x.relu().flatten(1)
    expected = (x @ network.dense.weight_0.T + network.dense.bias_0).relu()
    torch.testing.assert_close(network(image), expected, atol=1e-4, rtol=1e-4)
    assert network(image.expand(2, *image.shape)).shape == (2, 3, 7)


def test_impala_in_bfloat16_stays_near_float32():
    settings = {"conv_architecture": "impala", "conv_channels": (4,), "post_fcnet_hiddens": (7,)}
    networks = []
    for dtype in ("float32", "bfloat16"):
        torch.manual_seed(0)
        networks.append(make_encoder(IMAGE, ModelSettings(conv_dtype=dtype, **settings)))
    image = torch.from_numpy(np.stack(sample(IMAGE, 3)))
    exact, half = (network(image) for network in networks)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, atol=0.1, rtol=0.1)
