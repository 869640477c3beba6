import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional

from rl_core.errors import UnsupportedSpaceError
from rl_core.module.encoders import make_encoder
from rl_core.module.images import CNN, ChannelNorm
from rl_core.module.settings import ModelSettings
from rl_core.module.spec import ModuleSpec
from rl_core.policy import Policy
from rl_core.records import Weights


def image_space(*shape, dtype="uint8"):
    return spaces.Box(0, 255, shape, dtype)


@pytest.mark.parametrize(
    "shape",
    [(5, 5, 1), (7, 7, 3), (10, 10, 4), (16, 20, 3), (35, 35, 3), (36, 36, 1), (84, 84, 4), (96, 96, 3), (4, 84, 84)],
)
def test_cnn_takes_images_of_every_size(shape):
    space = image_space(*shape)
    network = CNN(space)
    image = torch.from_numpy(space.sample())
    features = network(image.expand(2, 3, *shape))
    assert features.shape == (2, 3, network.num_features)
    torch.testing.assert_close(network(image), features[0, 0], atol=1e-4, rtol=1e-4)


def test_cnn_reads_both_layouts_alike_and_scales_bytes():
    torch.manual_seed(0)
    last = CNN(image_space(12, 12, 3))
    torch.manual_seed(0)
    first = CNN(image_space(3, 12, 12))
    image = torch.randint(256, (2, 12, 12, 3), dtype=torch.uint8)
    torch.testing.assert_close(last(image), first(image.permute(0, 3, 1, 2)))
    torch.testing.assert_close(last(image), last(image / 255.0))


@pytest.mark.parametrize("architecture", ["plain", "impala"])
def test_a_stack_of_colour_images_is_one_image_with_all_their_channels(architecture):
    settings, networks = ModelSettings(conv_architecture=architecture), []
    for shape in ((4, 14, 14, 3), (4, 3, 14, 14), (12, 14, 14)):
        torch.manual_seed(0)
        networks.append(make_encoder(image_space(*shape), settings))
    stack = torch.randint(256, (2, 5, 4, 14, 14, 3), dtype=torch.uint8)
    planes = stack.movedim(-1, -3)
    features = networks[0](stack)
    assert features.shape == (2, 5, networks[0].num_features)
    torch.testing.assert_close(networks[1](planes), features)
    torch.testing.assert_close(networks[2](planes.flatten(2, 3)), features)


def test_cnn_leaves_its_input_alone():
    network, image = CNN(image_space(10, 10, 1, dtype="float32")), torch.rand(2, 10, 10, 1)
    before = image.clone()
    network(image)
    assert torch.equal(image, before)


@pytest.mark.parametrize(
    ("shape", "filters", "words"),
    [
        ((4, 4, 3), None, ["5 or more", "conv_filters", "Flatten"]),
        ((8, 8, 3), ((16, 4, 4), (16, 3, 1)), ["2 x 2", "kernel 3"]),
    ],
)
def test_cnn_says_that_an_image_is_too_small(shape, filters, words):
    with pytest.raises(UnsupportedSpaceError) as error:
        CNN(image_space(*shape), filters=filters, hiddens=None if filters is None else (8,))
    assert all(word in str(error.value) for word in words)


def test_cnn_takes_tiny_images_when_told_how():
    assert CNN(image_space(3, 3, 2), filters=((4, 2, 1),), hiddens=())(torch.rand(1, 3, 3, 2)).shape == (1, 16)


@pytest.mark.parametrize("shape", [(12, 12, 3), (3, 12, 12)])
def test_cnn_in_bfloat16_stays_near_float32_and_trains_float32_weights(shape):
    torch.manual_seed(0)
    exact = CNN(image_space(*shape))
    torch.manual_seed(0)
    half = CNN(image_space(*shape), dtype="bfloat16")
    image = torch.randint(256, (4, *shape), dtype=torch.uint8)
    features = half(image)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, exact(image), atol=0.05, rtol=0.05)
    features.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 and parameter.grad.any() for parameter in half.parameters())


def test_channel_norm_is_layer_norm_of_each_pixel():
    norm, x = ChannelNorm(3), torch.randn(2, 3, 4, 5)
    result = norm(x)
    for n, row, column in ((0, 0, 0), (1, 3, 4)):
        pixel = x[n, :, row, column]
        expected = (pixel - pixel.mean()) / (pixel.var(unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(result[n, :, row, column], expected)


@pytest.mark.parametrize("shape", [(12, 10, 3), (3, 12, 10)])
def test_cnn_pads_and_takes_a_kernel_and_stride_for_each_side(shape):
    space = spaces.Box(0.0, 1.0, shape, np.float32)
    filters = ((4, (4, 3), (2, 1), "same"), (5, 3, 2, "same"), (6, (2, 1), 1, "valid"))
    network = CNN(space, filters=filters, hiddens=(), activation="linear")
    image = torch.rand(2, *shape)
    x = image if shape[0] == 3 else image.permute(0, 3, 1, 2)
    first, second, third = (layer.weight for layer in network.convolutions)
    biases = [layer.bias for layer in network.convolutions]
    # 12 / 2 = 6 rows need (6 - 1) * 2 + 4 = 14; 10 columns at stride 1 need 12.
    x = functional.conv2d(functional.pad(x, (1, 1, 1, 1)), first, biases[0], (2, 1))
    assert x.shape[2:] == (6, 10)
    # 6 / 2 = 3 rows need 7, 10 / 2 = 5 columns need 11: the odd zero comes after.
    x = functional.conv2d(functional.pad(x, (0, 1, 0, 1)), second, biases[1], 2)
    assert x.shape[2:] == (3, 5)
    x = functional.conv2d(x, third, biases[2])
    torch.testing.assert_close(network(image), x.flatten(1))


def test_padding_at_stride_one_is_that_of_torch():
    space = spaces.Box(0.0, 1.0, (2, 9, 7), np.float32)
    network = CNN(space, filters=((4, (5, 2), 1, "same"),), hiddens=(), activation="linear")
    image, (layer,) = torch.rand(2, 2, 9, 7), network.convolutions
    expected = functional.conv2d(image, layer.weight, layer.bias, padding="same")
    torch.testing.assert_close(network(image), expected.flatten(1))


@pytest.mark.parametrize("shape", [(36, 36, 3), (4, 40, 36)])
@pytest.mark.parametrize("architecture", ["plain", "impala"])
def test_held_weights_compute_what_casting_them_at_each_call_does(shape, architecture):
    settings = ModelSettings(conv_dtype="bfloat16", conv_architecture=architecture, conv_use_layernorm=True)
    encoder, image = make_encoder(image_space(*shape), settings), torch.randint(256, (3, *shape), dtype=torch.uint8)
    with torch.inference_mode():
        cast = encoder(image)
        encoder.hold_weights()
        torch.testing.assert_close(encoder(image), cast, atol=0.02, rtol=0.02)
    assert all(tensor.dtype == torch.float32 for tensor in encoder.state_dict().values())


def test_a_policy_acts_with_the_weights_it_was_given_last():
    space = image_space(36, 36, 3)
    spec = ModuleSpec(model_config=ModelSettings(conv_dtype="bfloat16", vf_share_layers=True))
    policy, other = (Policy(spec, space, spaces.Discrete(3), seed=seed) for seed in (0, 1))
    image = torch.randint(256, (2, 36, 36, 3), dtype=torch.uint8)

    def act(policy):
        with torch.inference_mode():
            return policy.module.forward_policy(image, ())[0]

    assert not torch.allclose(act(policy), act(other))
    policy.set_weights(Weights(version=1, tensors=dict(other.module.state_dict())))
    assert torch.equal(act(policy), act(other))
    assert policy.module.state_dict().keys() == policy.build_module(seed=0).state_dict().keys()
