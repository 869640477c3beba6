import math

import pytest
import torch
from torch import nn

from rl_core.module.networks import ACTIVATIONS, MLP, NormedMLP, Tanh, tanh


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


def test_normed_mlp_normalises_before_it_activates():
    network, x = NormedMLP((3, 6, 4), activation="relu", initializer="orthogonal"), torch.randn(2, 7, 3)
    expected = x
    for dense in network.dense:
        y = expected @ dense.weight_0.T + dense.bias_0
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        expected = y.relu()
    torch.testing.assert_close(network(x), expected)
    assert network.num_features == 4
