import copy
import functools
import json
import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from rl_core.algorithms.ppo import PPOSettings
from rl_core.config.settings import LearnerSettings
from rl_core.errors import CheckpointError, ConfigError
from rl_core.learning.learner import trainable
from rl_core.learning.optimizer import FlatAdam, optimizer_factory
from rl_core.learning.torch_optimizer import TorchOptimizer

LR = 0.01
TRAINING = PPOSettings(lr=LR)


def network(seed=0):
    """In double precision, so that the last digits do not grow to differences within the steps of a test."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2), nn.PReLU(2)).double()


def adam(parameters, settings):
    return torch.optim.Adam(parameters.values(), lr=settings.lr, eps=settings.adam_epsilon)


def sgd(parameters, settings):
    return torch.optim.SGD(parameters.values(), lr=settings.lr, momentum=0.9)


def adam_and_sgd(parameters, settings):
    first = {name: parameter for name, parameter in parameters.items() if name.startswith("0.")}
    rest = {name: parameter for name, parameter in parameters.items() if name not in first}
    return torch.optim.Adam(first.values(), lr=0.02), torch.optim.SGD(rest.values(), lr=0.5)


def forgets_biases(parameters, settings):
    return torch.optim.SGD([parameter for name, parameter in parameters.items() if "bias" not in name], lr=0.1)


def halve_every_third(optimizer):
    return lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)


def decay(optimizer):
    return lr_scheduler.ExponentialLR(optimizer, gamma=0.9)


def warm_up_then_cosine(optimizer):
    warm, cosine = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4), lr_scheduler.CosineAnnealingLR(optimizer, 20)
    return lr_scheduler.SequentialLR(optimizer, [warm, cosine], milestones=[4])


def milestones(optimizer):
    return lr_scheduler.MultiStepLR(optimizer, milestones=[2, 6, 8], gamma=0.1)


def one_cycle(optimizer):
    return lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=30)


def linear_to_zero(optimizer):
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 40)


def make(module, optimizer_fn=adam, schedulers=(), training=TRAINING):
    learners = LearnerSettings(optimizer_fn=optimizer_fn, lr_scheduler_fns=schedulers)
    return TorchOptimizer(trainable(module), learners, training)


def backward(module, seed):
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    (module(x) - x.sum(-1, keepdim=True)).square().mean().backward()


def train(module, optimizer, seeds, *, clip=None):
    rates = []
    for seed in seeds:
        optimizer.zero_grad()
        backward(module, seed)
        optimizer.clip(clip, "global_norm")
        rates.append(optimizer.step(LR))
    return rates


def values(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def gradients(module):
    return [parameter.grad.clone() for parameter in module.parameters()]


# Steps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [None, 0.05])
def test_adam_of_torch_takes_the_steps_of_flat_adam(clip):
    ours, theirs = network(), network()
    flat = FlatAdam(trainable(ours), epsilon=TRAINING.adam_epsilon)
    assert train(ours, flat, range(50), clip=clip) == train(theirs, make(theirs), range(50), clip=clip) == [LR] * 50
    torch.testing.assert_close(values(ours), values(theirs), rtol=1e-9, atol=1e-9)
    assert (values(ours) - values(network())).abs().max() > 0.1


def test_schedulers_without_an_optimizer_of_ones_own_drive_the_default_adam():
    ours, theirs = network(), network()
    optimizer = make(theirs, optimizer_fn=None, schedulers=(decay,))
    flat = FlatAdam(trainable(ours), epsilon=TRAINING.adam_epsilon)
    for step in range(20):
        train(theirs, optimizer, [step])
        flat.zero_grad()
        backward(ours, step)
        flat.step(LR * 0.9**step)
    torch.testing.assert_close(values(ours), values(theirs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bound", [1e-3, 0.1, 100.0, None])
@pytest.mark.parametrize("by", ["global_norm", "norm", "value"])
def test_clipping_is_that_of_flat_adam(by, bound):
    ours, theirs = network(), network()
    flat, optimizer = FlatAdam(trainable(ours), epsilon=1e-5), make(theirs)
    backward(ours, 0)
    backward(theirs, 0)
    assert optimizer.clip(bound, by) == pytest.approx(flat.clip(bound, by), rel=1e-5)
    for mine, other in zip(gradients(ours), gradients(theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("by", ["global_norm", "norm", "value"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_reported_and_left_as_it_is(by, bad):
    module = network()
    optimizer = make(module)
    backward(module, 0)
    module[0].weight.grad[0, 0] = bad
    before = gradients(module)
    assert not math.isfinite(optimizer.clip(0.5, by))
    for old, new in zip(before, gradients(module), strict=True):
        assert torch.equal(old.nan_to_num(), new.nan_to_num())


def test_parameters_that_a_loss_does_not_reach_are_left_out_of_clipping_and_stay():
    module = network()
    optimizer = make(module)
    untouched = module[2].weight.clone()
    optimizer.zero_grad()
    (module[0].weight ** 2).sum().backward()
    expected = float(torch.linalg.vector_norm(module[0].weight.grad))
    assert optimizer.clip(1e-2, "norm") == pytest.approx(expected)
    optimizer.step(LR)
    assert torch.equal(module[2].weight, untouched)


def test_two_optimizers_each_train_their_own_parameters():
    module, reference = network(), network()
    optimizer = make(module, adam_and_sgd)
    first = torch.optim.Adam(reference[0].parameters(), lr=0.02)
    second = torch.optim.SGD(reference[2:].parameters(), lr=0.5)
    rates = train(module, optimizer, range(10))
    for seed in range(10):
        first.zero_grad()
        second.zero_grad()
        backward(reference, seed)
        first.step()
        second.step()
    assert torch.equal(values(module), values(reference))
    assert rates == [0.02] * 10, "the rate of the first group"


# Learning rates -------------------------------------------------------------------------------------------------------


def test_a_scheduler_steps_after_every_optimizer_step():
    module = network()
    rates = train(module, make(module, schedulers=(halve_every_third,)), range(9))
    assert rates == pytest.approx([LR] * 3 + [LR / 2] * 3 + [LR / 4] * 3)


def test_schedulers_are_chained():
    module = network()
    rates = train(module, make(module, schedulers=(halve_every_third, decay)), range(9))
    assert rates == pytest.approx([LR * 0.5 ** (step // 3) * 0.9**step for step in range(9)])


def test_every_scheduler_drives_every_optimizer():
    module = network()
    optimizer = make(module, adam_and_sgd, schedulers=(decay,))
    train(module, optimizer, range(5))
    last = [one.param_groups[0]["lr"] for one in optimizer.optimizers]
    assert last == pytest.approx([0.02 * 0.9**5, 0.5 * 0.9**5])


def test_a_schedule_in_the_settings_and_schedulers_together_are_refused():
    with pytest.raises(ConfigError, match=r"lr: got the schedule .*lr_scheduler_fns, expected one of the two"):
        make(network(), None, (decay,), PPOSettings(lr=((0, 1e-3), (100, 0))))


# State ----------------------------------------------------------------------------------------------------------------

SCHEDULERS = {
    "none": (),
    "chained": (halve_every_third, decay),
    "sequential": (warm_up_then_cosine,),
    "milestones": (milestones,),
    "one cycle": (one_cycle,),
    "function": (linear_to_zero,),
}


def through_json(value):
    """What a file makes of state: keys become text, tuples may become lists, tensors stay."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else json.dumps(key): through_json(item) for key, item in value.items()}
    return [through_json(item) for item in value] if isinstance(value, list | tuple) else copy.deepcopy(value)


@pytest.mark.parametrize("optimizer_fn", [adam, sgd, adam_and_sgd, None])
@pytest.mark.parametrize("schedulers", SCHEDULERS.values(), ids=SCHEDULERS)
def test_training_goes_on_bit_for_bit_after_a_state_round_trip(optimizer_fn, schedulers):
    if optimizer_fn is None and not schedulers:
        pytest.skip("that is FlatAdam")
    module, twin = network(), network(9)
    optimizer = make(module, optimizer_fn, schedulers)
    train(module, optimizer, range(5))
    state = through_json(optimizer.get_state())
    twin.load_state_dict(copy.deepcopy(module.state_dict()))
    restored = make(twin, optimizer_fn, schedulers)
    restored.set_state(state)
    assert train(module, optimizer, range(5, 15)) == train(twin, restored, range(5, 15))
    assert torch.equal(values(module), values(twin))


@pytest.mark.parametrize("optimizer_fn", [adam, sgd])
def test_the_state_taken_back_is_not_shared_with_the_optimizer(optimizer_fn):
    module, twin = network(), network()
    optimizer = make(module, optimizer_fn)
    train(module, optimizer, range(3))
    state = optimizer.get_state()
    before = copy.deepcopy(state)
    restored = make(twin, optimizer_fn)
    restored.set_state(state)
    train(twin, restored, range(3))
    assert all(torch.equal(one, two) for one, two in zip(_tensors(before), _tensors(state), strict=True))


def _tensors(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value] if isinstance(value, torch.Tensor) else []


def test_the_state_handed_out_does_not_change_with_further_steps():
    module = network()
    optimizer = make(module, schedulers=(decay,))
    train(module, optimizer, range(3))
    state = optimizer.get_state()
    before = copy.deepcopy(state)
    train(module, optimizer, range(3, 6))
    assert all(torch.equal(one, two) for one, two in zip(_tensors(before), _tensors(state), strict=True))
    assert before["schedulers"] == state["schedulers"]


@pytest.mark.parametrize(
    ("optimizer_fn", "schedulers"),
    [(adam_and_sgd, (decay,)), (adam, ()), (adam, (decay, decay)), (None, ())],
    ids=["more optimizers", "fewer schedulers", "more schedulers", "flat"],
)
def test_a_state_of_other_optimizers_is_refused(optimizer_fn, schedulers):
    learners = LearnerSettings(optimizer_fn=optimizer_fn, lr_scheduler_fns=schedulers)
    other = optimizer_factory(learners, TRAINING)(trainable(network()))
    with pytest.raises(CheckpointError, match="saved optimizers are others than those of this run"):
        make(network(), adam, (decay,)).set_state(other.get_state())
    with pytest.raises(CheckpointError):
        other.set_state(make(network(), adam, (decay,)).get_state())


def by_parts(parameters, settings):
    """One group with the setting's rate, one with a tenth of it, one with its own."""
    named = list(parameters.items())
    rates = (settings.lr, settings.lr / 10, 0.05)
    parts = (named[:2], named[2:4], named[4:])
    groups = [{"params": [one for _, one in part], "lr": rate} for part, rate in zip(parts, rates, strict=True)]
    return torch.optim.Adam(groups, eps=settings.adam_epsilon)


def restored_into(other, optimizer_fn, schedulers):
    """Optimizers with settings that differ, with the state of some that have taken five steps."""
    first = network()
    optimizer = make(first, optimizer_fn, schedulers)
    train(first, optimizer, range(5))
    restored = make(first, optimizer_fn, schedulers, other)
    restored.set_state(through_json(optimizer.get_state()))
    return restored


@pytest.mark.parametrize("schedulers", SCHEDULERS.values(), ids=SCHEDULERS)
@pytest.mark.parametrize("optimizer_fn", [by_parts, None])
def test_a_learning_rate_that_the_settings_now_have_otherwise_holds_after_a_restore(optimizer_fn, schedulers):
    other = PPOSettings(lr=LR / 4, adam_epsilon=1e-3)
    restored = restored_into(other, optimizer_fn, schedulers)
    always = make(network(), optimizer_fn, schedulers, other)  # has had them from the beginning
    train(network(), always, range(5))
    for _ in range(20):
        groups, expected = (one.optimizers[0].param_groups for one in (restored, always))
        assert [group["lr"] for group in groups] == pytest.approx([group["lr"] for group in expected])
        assert {group["eps"] for group in groups} == {1e-3}
        restored.step(LR)
        always.step(LR)


def test_a_learning_rate_of_zero_comes_back_to_life():
    state = make(network(), training=PPOSettings(lr=0.0)).get_state()
    restored = make(network())
    restored.set_state(state)
    assert restored.step(LR) == LR


def test_a_state_that_did_not_fit_leaves_the_learning_rates_of_the_run_as_they_began():
    module = network()
    optimizer = make(module, training=PPOSettings(lr=0.5), schedulers=(decay,))
    before = optimizer.get_state()
    with pytest.raises(CheckpointError):
        optimizer.set_state({**make(network(), schedulers=(decay,)).get_state(), "schedulers": []})
    optimizer.set_state(before)
    assert optimizer.step(LR) == 0.5


# What functions return ------------------------------------------------------------------------------------------------


def test_forgotten_parameters_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"no optimizer has the parameters \['0\.bias', '2\.bias'\]"):
        make(network(), forgets_biases)


def test_frozen_parameters_may_be_left_out():
    module = network()
    for part in (module[0], module[2]):
        part.bias.requires_grad_(False)
    before = module[0].bias.clone()
    train(module, make(module, forgets_biases), range(3))
    assert torch.equal(module[0].bias, before)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "optimizer_fn returned None, expected one or several torch optimizers"),
        (nn.Linear(1, 1), "optimizer_fn returned Linear.*, expected one or several torch optimizers"),
        ((), "optimizer_fn returned no optimizer"),
        ([3], "optimizer_fn returned 3, expected one or several torch optimizers"),
    ],
)
def test_what_is_no_optimizer_is_refused(returned, message):
    with pytest.raises(ConfigError, match=message):
        make(network(), lambda parameters, settings: returned)


def test_the_function_gets_named_parameters_and_the_training_settings():
    seen = []

    def watch(parameters, settings):
        seen.append((list(parameters), settings))
        return adam(parameters, settings)

    make(network(), watch)
    ((names, settings),) = seen
    assert names == [name for name, _ in network().named_parameters()]
    assert settings is TRAINING


@pytest.mark.parametrize("precision", ["bfloat16-true", "float16-true"])
@pytest.mark.parametrize("functions", [{"optimizer_fn": adam}, {"lr_scheduler_fns": (decay,)}])
def test_optimizers_of_torch_are_refused_for_weights_in_half_precision(functions, precision):
    (name,) = functions
    mixed = precision.replace("true", "mixed")
    message = rf"precision: got '{precision}' together with learners\.{name}.*'{mixed}', or leave {name} out"
    with pytest.raises(ConfigError, match=message):
        optimizer_factory(LearnerSettings(**functions), PPOSettings(precision=precision))
    assert optimizer_factory(LearnerSettings(**functions), PPOSettings(precision=mixed))


def test_the_factory_takes_flat_adam_unless_functions_are_named():
    def kind(**learners):
        return type(optimizer_factory(LearnerSettings(**learners), TRAINING)(trainable(network())))

    assert kind() is FlatAdam
    assert kind(optimizer_fn=adam) is TorchOptimizer
    assert kind(lr_scheduler_fns=[decay]) is TorchOptimizer
    assert kind(optimizer_fn=functools.partial(sgd)) is TorchOptimizer
