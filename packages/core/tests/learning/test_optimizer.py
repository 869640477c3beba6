import copy
import math

import pytest
import torch
from torch import nn

from rl_core.errors import CheckpointError
from rl_core.learning.learner import trainable
from rl_core.learning.optimizer import FlatAdam

EPSILON = 1e-5


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2), nn.LayerNorm(2))


def flat_adam(module):
    return FlatAdam(trainable(module), epsilon=EPSILON)


def backward(module, seed):
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(seed))
    (module(x) - x.sum(-1, keepdim=True)).square().mean().backward()


def gradients(module):
    return [parameter.grad.clone() for parameter in module.parameters()]


def test_fifty_steps_equal_those_of_torch_adam():
    ours, theirs = network(), network()
    optimizer = flat_adam(ours)
    reference = torch.optim.Adam(theirs.parameters(), lr=1.0, eps=EPSILON)
    for step in range(50):
        lr = 0.01 / (1 + step)
        optimizer.zero_grad()
        backward(ours, step)
        assert optimizer.step(lr) == lr
        reference.param_groups[0]["lr"] = lr
        reference.zero_grad()
        backward(theirs, step)
        reference.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bound", [1e-3, 0.1, 100.0])
@pytest.mark.parametrize("by", ["global_norm", "norm", "value"])
def test_clipping_equals_torch(by, bound):
    ours, theirs = network(), network()
    optimizer = flat_adam(ours)
    backward(ours, 0)
    backward(theirs, 0)
    expected_norm = torch.linalg.vector_norm(torch.cat([grad.flatten() for grad in gradients(theirs)])).item()
    if by == "global_norm":
        nn.utils.clip_grad_norm_(theirs.parameters(), bound)
    elif by == "value":
        nn.utils.clip_grad_value_(theirs.parameters(), bound)
    else:
        for parameter in theirs.parameters():
            nn.utils.clip_grad_norm_([parameter], bound)
    assert optimizer.clip(bound, by) == pytest.approx(expected_norm), "the norm before clipping"
    for mine, other in zip(gradients(ours), gradients(theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-8)


def test_without_a_bound_the_gradient_stays():
    module = network()
    optimizer = flat_adam(module)
    backward(module, 0)
    before = gradients(module)
    assert optimizer.clip(None, "global_norm") > 0
    assert all(torch.equal(a, b) for a, b in zip(before, gradients(module), strict=True))


@pytest.mark.parametrize("by", ["global_norm", "norm", "value"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_reported_and_left_as_it_is(by, bad):
    module = network()
    optimizer = flat_adam(module)
    backward(module, 0)
    module[0].weight.grad[0, 0] = bad
    before = optimizer.grad.clone()
    assert not math.isfinite(optimizer.clip(0.5, by))
    assert torch.equal(before.nan_to_num(), optimizer.grad.nan_to_num())


def test_parameters_and_gradients_are_views_of_the_flat_buffers():
    module = network()
    values = [parameter.detach().clone() for parameter in module.parameters()]
    optimizer = flat_adam(module)
    assert all(torch.equal(a, b) for a, b in zip(values, module.parameters(), strict=True)), "values do not change"
    optimizer.flat.fill_(7.0)
    backward(module, 0)
    assert all((parameter == 7.0).all() for parameter in module.parameters())
    assert optimizer.grad.abs().sum() > 0
    optimizer.zero_grad()
    assert all((grad == 0).all() for grad in gradients(module))


def test_loading_a_state_dict_keeps_the_views():
    module = network()
    optimizer = flat_adam(module)
    module.load_state_dict(network(1).state_dict())
    expected = torch.cat([parameter.detach().flatten() for parameter in network(1).parameters()])
    assert torch.equal(optimizer.flat, expected)


def test_frozen_parameters_are_left_out_and_never_change():
    module = network()
    module[0].requires_grad_(False)
    frozen = module[0].weight.clone()
    optimizer = flat_adam(module)
    backward(module, 0)
    optimizer.step(0.1)
    assert torch.equal(module[0].weight, frozen)
    assert len(optimizer.flat) == sum(p.numel() for p in module[2:].parameters())


def test_training_goes_on_bit_for_bit_after_a_state_round_trip():
    module = network()
    optimizer = flat_adam(module)

    def train(module, optimizer, seeds):
        for seed in seeds:
            optimizer.zero_grad()
            backward(module, seed)
            optimizer.step(0.01)

    train(module, optimizer, range(5))
    twin = network(9)
    twin_optimizer = flat_adam(twin)
    twin.load_state_dict(module.state_dict())
    state = copy.deepcopy(optimizer.get_state())
    twin_optimizer.set_state(state)
    train(module, optimizer, range(5, 10))
    train(twin, twin_optimizer, range(5, 10))
    assert torch.equal(optimizer.flat, twin_optimizer.flat)
    assert float(state["num_steps"]) == 5.0, "the state given is not shared with the optimiser"


@pytest.mark.parametrize("damage", [{"mean": torch.zeros(3)}, {"mean": None}, {"num_steps": torch.zeros(2)}])
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(damage):
    optimizer = flat_adam(network())
    other = {name: torch.ones_like(tensor) for name, tensor in optimizer.get_state().items()}
    with pytest.raises(CheckpointError, match=rf"Optimiser state '{next(iter(damage))}': got"):
        optimizer.set_state({**other, **damage})
    assert float(optimizer.num_steps) == 0.0
    assert (optimizer.mean == 0).all()
    assert (optimizer.mean_square == 0).all()


def test_a_module_without_trainable_parameters_is_refused():
    with pytest.raises(ValueError, match="Adam got no trainable parameters"):
        flat_adam(network().requires_grad_(False))


def test_parameters_of_two_dtypes_are_refused_and_named():
    module = network()
    module[0].double()
    with pytest.raises(ValueError, match="several kinds: .*float32.*float64"):
        flat_adam(module)
