import pytest
import torch

from rl_core.module.ensemble import EnsembleMLP
from rl_core.module.networks import MLP

SIZES = (4, 6, 5, 2)


def separate(ensemble, activation, initializer):
    """MLPs with the weights of the members."""
    nets = []
    for member in range(ensemble.num_members):
        net = MLP(SIZES, activation=activation, initializer=initializer, last_gain=1.0)
        tensors = [ensemble.state_dict()[f"{kind}_{index}"][member] for index in range(3) for kind in ("weight", "bias")]
        with torch.no_grad():
            for own, tensor in zip(net.parameters(), tensors, strict=True):
                own.copy_(tensor.view_as(own))
        nets.append(net.double())
    return nets


@pytest.mark.parametrize("activation", ["relu", "tanh", "linear"])
@pytest.mark.parametrize("num_members", [1, 2, 5])
def test_each_member_is_a_network_of_its_own(num_members, activation):
    torch.manual_seed(0)
    ensemble = EnsembleMLP(SIZES, num_members, activation=activation, initializer="torch").double()
    nets = separate(ensemble, activation, "torch")
    x = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    y = ensemble(x)
    expected = torch.stack([net(x) for net in nets])
    torch.testing.assert_close(y, expected)
    gradients = torch.autograd.grad(y.square().sum(), [x, *ensemble.parameters()])
    wanted = [parameter for net in nets for parameter in net.parameters()]
    of_x, *others = torch.autograd.grad(expected.square().sum(), [x, *wanted])
    torch.testing.assert_close(gradients[0], of_x)
    for place, gradient in enumerate(gradients[1:]):
        for member in range(num_members):
            torch.testing.assert_close(gradient[member].view_as(others[6 * member + place]), others[6 * member + place])


@pytest.mark.parametrize("leading", [(), (1,), (3,), (2, 3), (3, 3, 4)])
def test_any_leading_axes_come_behind_that_of_the_members(leading):
    torch.manual_seed(0)
    ensemble = EnsembleMLP(SIZES, 3, activation="relu", initializer="orthogonal")
    x = torch.randn(*leading, 4)
    y = ensemble(x)
    assert y.shape == (3, *leading, 2)
    torch.testing.assert_close(y.reshape(3, -1, 2), ensemble(x.reshape(-1, 4)))


@pytest.mark.parametrize("initializer", ["torch", "orthogonal"])
def test_members_start_as_networks_made_one_after_the_other(initializer):
    torch.manual_seed(3)
    ensemble = EnsembleMLP((4, 2), 3, activation="relu", initializer=initializer)
    torch.manual_seed(3)
    for member in range(3):
        net = MLP((4, 2), activation="relu", initializer=initializer, last_gain=1.0)
        weight, bias = net.parameters()
        torch.testing.assert_close(ensemble.weight_0[member], weight)
        torch.testing.assert_close(ensemble.bias_0[member, 0], bias)
    assert not torch.equal(ensemble.weight_0[0], ensemble.weight_0[1])
