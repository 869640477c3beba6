import copy
import gc
import math
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
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


def layer_by_layer(network, x, parameters):
    for index, activate in enumerate(network.activations):
        x = nn.functional.linear(x, parameters[f"weight_{index}"], parameters[f"bias_{index}"])
        x = x if activate is None else activate(x)
    return x


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("num_samples", [3, 200])
@pytest.mark.parametrize("sizes", [(3, 5), (3, 5, 4), (6, 2, 7, 1)])
def test_mlp_has_the_gradients_of_linear_layers(activation, num_samples, sizes):
    network = MLP(sizes, activation=activation, activate_last=True).double()
    x = torch.randn(2, num_samples, sizes[0], dtype=torch.float64, requires_grad=True)
    inputs, parameters = [x, *network.parameters()], dict(network.named_parameters())
    weights = torch.randn(2, num_samples, sizes[-1], dtype=torch.float64)
    expected = torch.autograd.grad((layer_by_layer(network, x, parameters) * weights).sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad((network(x) * weights).sum(), inputs), expected)


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "silu"])
def test_gradients_of_an_mlp_can_be_differentiated(activation):
    network = MLP((3, 5, 4, 2), activation=activation, initializer="torch").double()  # no biases at the kink of relu
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)

    def result(x, *values):
        return torch.func.functional_call(network, dict(zip(parameters, values, strict=True)), (x,))

    parameters = dict(network.named_parameters())
    assert torch.autograd.gradcheck(result, (x, *parameters.values()))
    assert torch.autograd.gradgradcheck(result, (x, *parameters.values()))


@pytest.mark.parametrize("frozen", [("weight_0", "bias_0"), ("bias_1",), ("weight_2", "bias_2"), ("weight_0",)])
@pytest.mark.parametrize("input_needs_it", [False, True])
def test_frozen_parameters_of_an_mlp_get_no_gradient(frozen, input_needs_it):
    network, x = MLP((3, 5, 4, 2)), torch.randn(200, 3, requires_grad=input_needs_it)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    trained = [parameter for parameter in (x, *network.parameters()) if parameter.requires_grad]
    expected = torch.autograd.grad(layer_by_layer(network, x, dict(network.named_parameters())).sum(), trained)
    network(x).sum().backward()
    torch.testing.assert_close(tuple(leaf.grad for leaf in trained), expected)
    assert all(dict(network.named_parameters())[name].grad is None for name in frozen)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_samples", [0, 1, 8, 300])
def test_mlp_acts_as_linear_layers_do(activation, dtype, num_samples):
    network, x = MLP((5, 64, 32, 3), activation=activation).to(dtype), torch.randn(num_samples, 5, dtype=dtype)
    with torch.no_grad():
        expected = layer_by_layer(network, x, dict(network.named_parameters()))
        result = network(x)
    assert result.dtype == dtype
    torch.testing.assert_close(result, expected)
    assert not result.requires_grad


def doubled_in_place(network):
    for parameter in network.parameters():
        parameter.mul_(2.0)
    return network


def with_one_moved(network):
    network.weight_1.data = 3.0 * network.weight_1.data
    return network


def loaded(network):
    network.load_state_dict(MLP(network.sizes, activation="relu").state_dict())
    return network


def copied_and_changed(network):
    other = copy.deepcopy(network)
    other.bias_0.add_(1.0)
    network.bias_0.sub_(1.0)
    return other


def sent_and_changed(network):
    return doubled_in_place(pickle.loads(pickle.dumps(network)))


@pytest.mark.parametrize("change", [doubled_in_place, with_one_moved, loaded, copied_and_changed, sent_and_changed])
@torch.no_grad()
def test_mlp_acts_with_the_weights_it_has_now(change):
    network, x = MLP((4, 8, 8, 2), activation="relu"), torch.randn(3, 4)
    network(x)
    changed = change(network)
    for each in (network, changed):
        torch.testing.assert_close(each(x), layer_by_layer(each, x, dict(each.named_parameters())))


class Centred(MLP):
    def __init__(self, sizes):
        super().__init__(sizes)
        self.norm = nn.LayerNorm(sizes[0])

    def forward(self, x):
        return super().forward(self.norm(x))


@torch.no_grad()
def test_networks_with_more_parts_or_tied_weights_act():
    network, x = Centred((4, 8, 8, 2)), torch.randn(3, 4)
    torch.testing.assert_close(network(x), layer_by_layer(network, network.norm(x), dict(network.named_parameters())))
    tied = MLP((4, 8, 8, 8, 2))
    tied.weight_2 = tied.weight_1
    named = dict(tied.named_parameters(remove_duplicate=False))
    torch.testing.assert_close(tied(x), layer_by_layer(tied, x, named))


@torch.no_grad()
def test_numpys_errors_do_not_reach_policies():
    network, x = MLP((4, 8, 8, 2)), torch.full((1, 4), 3e38)
    with np.errstate(all="raise"):
        result = network(x)
    torch.testing.assert_close(result, layer_by_layer(network, x, dict(network.named_parameters())), equal_nan=True)


def test_threads_act_with_whole_weights():
    networks, x = [MLP((4, 16, 16, 2), activation="relu") for _ in range(300)], torch.randn(3, 4)
    barrier = threading.Barrier(2)

    def act(network):
        barrier.wait()
        with torch.no_grad():
            return network(x)

    with ThreadPoolExecutor(2) as pool:
        for network in networks:
            results = list(pool.map(act, (network, network)))
            for result in results:
                torch.testing.assert_close(result, layer_by_layer(network, x, dict(network.named_parameters())))


@torch.no_grad()
def test_results_of_acting_are_not_overwritten_and_leave_the_input_alone():
    network, x = MLP((4, 8, 8, 2), activation="relu"), torch.randn(3, 4)
    first, before = network(x), x.clone()
    kept = first.clone()
    network(x + 1.0)
    assert torch.equal(first, kept)
    assert torch.equal(x, before)


@torch.no_grad()
def test_what_changes_how_a_module_is_called_changes_acting():
    network, x = MLP((4, 8, 8, 2)), torch.randn(3, 4)
    plain = network(x)
    by_row = torch.func.vmap(network)(x)
    torch.testing.assert_close(by_row, plain)
    doubled = {name: 2.0 * value for name, value in network.named_parameters()}
    torch.testing.assert_close(torch.func.functional_call(network, doubled, (x,)), layer_by_layer(network, x, doubled))
    with torch.autocast("cpu", torch.bfloat16):
        assert network(x).dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="dtype"):
        network(x.double())
    assert network.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(network.float()(x), plain, atol=0.05, rtol=0.05)


def test_mlp_computes_the_same_with_and_without_gradients():
    network, x = MLP((4, 64, 64, 2)), torch.randn(256, 4)
    with torch.no_grad():
        acting = network(x)
    assert torch.equal(network(x), acting)


def test_mlp_trains_under_autocast():
    network, x = MLP((4, 64, 64, 2)), torch.randn(256, 4)
    with torch.autocast("cpu", torch.bfloat16):
        result = network(x)
    assert result.dtype == torch.bfloat16
    result.float().square().sum().backward()
    halved = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    network(x).square().sum().backward()
    for half, parameter in zip(halved, network.parameters(), strict=True):
        assert half.dtype == torch.float32
        assert (half - parameter.grad).norm() < 0.05 * parameter.grad.norm()


def test_mlp_works_under_torch_func_transforms():
    network, x = MLP((3, 5, 2)), torch.randn(4, 3)
    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def total(parameters, row):
        return torch.func.functional_call(network, parameters, (row,)).sum()

    by_sample = torch.func.vmap(torch.func.grad(total), (None, 0))(parameters, x)
    network(x).sum().backward()
    for name, value in network.named_parameters():
        torch.testing.assert_close(by_sample[name].sum(0), value.grad)


def test_an_mlp_without_samples_has_zero_gradients():
    network = MLP((3, 5, 2))
    network(torch.zeros(0, 3)).sum().backward()
    assert not any(parameter.grad.any() for parameter in network.parameters())


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


def test_nothing_is_kept_of_an_mlp_that_was_not_differentiated():
    gc.collect()
    gc.disable()  # a cycle would wait for the collector, and minibatches would pile up until it comes
    try:
        result = MLP((4, 8, 8, 2), activate_last=True)(torch.randn(16, 4))
        node = weakref.ref(result.grad_fn)
        assert node() is not None
        del result
        assert node() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("change", ["weight", "input", "result"])
def test_what_gradients_follow_from_cannot_be_changed_unnoticed(change):
    network, x = MLP((4, 8, 2), activate_last=True), torch.randn(16, 4)
    result = network(x)
    with torch.no_grad():
        {"weight": network.weight_1, "input": x, "result": result}[change].mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()
