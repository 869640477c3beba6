import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from torch.nn import functional

from rl_core.errors import UnsupportedSpaceError
from rl_core.module.networks import ACTIVATIONS, CNN, MLP, ChannelNorm, NormedMLP, Tanh, tanh


def image_space(*shape, dtype="uint8"):
    return spaces.Box(0, 255, shape, dtype)


def test_tanh_is_exact_to_three_ten_millionths():
    x = torch.cat(
        (torch.linspace(-30, 30, 300_001), torch.logspace(-30, 30, 1000), torch.tensor([math.inf, -math.inf]))
    )
    assert (tanh(x).double() - x.double().tanh()).abs().max() <= 3e-7
    assert tanh(x).abs().max() == 1.0
    assert tanh(torch.tensor(math.nan)).isnan()


def test_tanh_has_the_gradient_of_tanh_to_second_order():
    x = torch.randn(7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tanh, x)
    assert torch.autograd.gradgradcheck(tanh, x)
    expected = torch.autograd.grad(torch.tanh(x).sum(), x)[0]
    torch.testing.assert_close(torch.autograd.grad(tanh(x).sum(), x)[0], expected)


def test_tanh_works_under_torch_func_transforms():
    x = torch.randn(3, 4)
    gradient = torch.func.vmap(torch.func.grad(lambda row: tanh(row).sum()))(x)
    torch.testing.assert_close(gradient, 1 - x.tanh() ** 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_tanh_keeps_the_type(dtype):
    assert tanh(torch.randn(3, dtype=dtype)).dtype == dtype


def test_tanh_network_can_be_exported():
    network = nn.Sequential(MLP((4, 8, 2)), Tanh())
    x = torch.randn(3, 4)
    exported = torch.export.export(network, (x,)).module()
    torch.testing.assert_close(exported(x), network(x))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_computes_what_linear_layers_compute(activation):
    network = MLP((3, 5, 4), activation=activation, activate_last=True)
    function = ACTIVATIONS[activation] or (lambda x: x)
    x = torch.randn(2, 7, 3)
    expected = x
    for index in range(2):
        parameters = dict(network.named_parameters())
        expected = function(expected @ parameters[f"weight_{index}"].T + parameters[f"bias_{index}"])
    torch.testing.assert_close(network(x), expected)


def test_mlp_works_with_functional_call():
    network, x = MLP((3, 5, 2)), torch.randn(4, 3)
    doubled = {name: 2 * value for name, value in network.named_parameters()}
    result = torch.func.functional_call(network, doubled, (x,))
    other = MLP((3, 5, 2))
    other.load_state_dict(doubled)
    torch.testing.assert_close(result, other(x))


def test_orthogonal_weights_have_the_gain_and_zero_biases():
    network = MLP((8, 8, 4), last_gain=0.01)
    parameters = dict(network.named_parameters())
    torch.testing.assert_close(parameters["weight_0"] @ parameters["weight_0"].T, 2.0 * torch.eye(8))
    torch.testing.assert_close(parameters["weight_1"] @ parameters["weight_1"].T, 1e-4 * torch.eye(4))
    assert not any(parameters[name].any() for name in ("bias_0", "bias_1"))


def test_torch_initializer_is_that_of_linear():
    torch.manual_seed(0)
    network = MLP((6, 3), initializer="torch")
    torch.manual_seed(0)
    layer = nn.Linear(6, 3)
    for mine, theirs in zip(network.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


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


def test_normed_mlp_normalises_before_it_activates():
    network, x = NormedMLP((3, 6, 4), activation="relu", initializer="orthogonal"), torch.randn(2, 7, 3)
    expected = x
    for dense in network.dense:
        y = expected @ dense.weight_0.T + dense.bias_0
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        expected = y.relu()
    torch.testing.assert_close(network(x), expected)
    assert network.num_features == 4


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
