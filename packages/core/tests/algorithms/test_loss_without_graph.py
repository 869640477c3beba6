import copy
import dataclasses
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from rl_core.algorithms.ppo import PPOSettings, actor_critic_loss
from rl_core.module.actor_critic import ActorCritic
from rl_core.module.settings import ModelSettings
from rl_core.ops.losses import LossCoefficients, clipped_terms, policy_gradient_terms, write_gradients
from rl_core.records import Batch
from rl_core.tree import tree_map

N = 48
SETTINGS = PPOSettings()
OBS = spaces.Box(-1.0, 1.0, (5,), np.float32)
BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
ACTIONS = {
    "discrete": spaces.Discrete(4),
    "box": BOX,
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "dict": spaces.Dict(aim=BOX, fire=spaces.Discrete(2)),
}


class Recorded(ActorCritic):
    """The same module, always with a graph."""

    def forward_train_vjp(self, obs):
        return None


def module_of(module_class=ActorCritic, actions="discrete", **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = module_class(OBS, ACTIONS[actions], ModelSettings(fcnet_hiddens=(32, 16), **settings))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return module


def batch_for(module):
    generator = torch.Generator().manual_seed(1)
    obs = torch.randn(N, 5, generator=generator)
    with torch.no_grad():
        dist_inputs, value = module.forward_train(obs)
        action = module.distribution.sample(dist_inputs, module.distribution.noise((N,), generator))
        log_prob = module.distribution.log_prob(dist_inputs, action)
    noise = torch.randn(4, N, generator=generator)
    return Batch(
        obs=obs,
        action=action,
        behavior_log_prob=log_prob + 0.3 * noise[0],
        behavior_dist_inputs=dist_inputs,
        behavior_value=value + 0.5 * noise[1],
        advantage=noise[2],
        value_target=noise[3],
    )


def clipped(batch, entropy=0.02, value_clip=None):
    return partial(
        clipped_terms,
        behavior_log_prob=batch.behavior_log_prob,
        behavior_value=batch.behavior_value,
        value_target=batch.value_target,
        coefficients=LossCoefficients(clip=0.2, value_clip=value_clip, value=0.5, entropy=entropy),
    )


def policy_gradient(batch):
    return partial(
        policy_gradient_terms,
        behavior_log_prob=batch.behavior_log_prob,
        value_target=batch.value_target,
        value_coeff=0.5,
        entropy_coeff=0.01,
    )


def backward(loss, module):
    """Give the module the gradients as the learner does, and say whether the loss wrote them itself."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if write_gradients(loss, parameters):
        return True
    for parameter in parameters:
        parameter.grad.zero_()
    loss.backward()
    return False


def gradients(module):
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def knows(module):
    return module.forward_train_vjp(torch.zeros(2, 5)) is not None


TERMS = {
    "clipped": clipped,
    "no entropy": partial(clipped, entropy=0.0),
    "clipped value": partial(clipped, value_clip=0.3),
    "policy gradient": policy_gradient,
}


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("actions", ACTIONS)
def test_gradients_without_a_graph_are_those_of_autograd(actions, terms, activation):
    ours, theirs = (module_of(kind, actions, fcnet_activation=activation) for kind in (ActorCritic, Recorded))
    assert knows(ours) or ours._order is not None
    batch = batch_for(ours)
    results = []
    for module in (ours, theirs):
        total, report, _ = actor_critic_loss(module, batch, SETTINGS, TERMS[terms](batch))
        assert backward(total, module) == (module is ours and knows(ours))
        results.append({"total": total.detach(), **report, **gradients(module)})
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients(theirs).values())
    torch.testing.assert_close(*results, atol=2e-6, rtol=2e-5)


def test_free_log_std_gets_the_gradient_of_autograd():
    ours, theirs = (module_of(kind, "box", free_log_std=True) for kind in (ActorCritic, Recorded))
    assert knows(ours)
    assert ours.log_std is not None
    batch = batch_for(ours)
    for module in (ours, theirs):
        backward(actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0], module)
    assert theirs.log_std.grad.abs().max() > 1e-3
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=2e-6, rtol=2e-5)


def test_a_graph_is_recorded_where_more_terms_need_it_and_the_loss_can_be_added_to():
    ours, theirs = module_of(), module_of(Recorded)
    batch = batch_for(ours)
    for module in (ours, theirs):
        total, _, dist_inputs = actor_critic_loss(module, batch, SETTINGS, clipped(batch), keep_graph=True)
        assert dist_inputs.requires_grad
        assert not backward(total + dist_inputs.square().mean(), module)
    torch.testing.assert_close(gradients(ours), gradients(theirs))
    for module in (ours, theirs):
        total, _, dist_inputs = actor_critic_loss(module, batch, SETTINGS, clipped(batch))
        assert dist_inputs.requires_grad == (module is theirs)
        assert not backward(2.0 * total + sum(parameter.square().sum() for parameter in module.parameters()), module)
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=2e-6, rtol=2e-5)


def test_the_loss_can_be_added_to_in_place():
    module = module_of()
    batch = batch_for(module)
    total, *_ = actor_critic_loss(module, batch, SETTINGS, clipped(batch))
    total += module.policy.bias_0.sum()
    backward(total, module)
    alone = module_of()
    backward(actor_critic_loss(alone, batch, SETTINGS, clipped(batch))[0], alone)
    torch.testing.assert_close(module.policy.bias_0.grad, alone.policy.bias_0.grad + 1.0)


def test_values_that_would_broadcast_are_refused():
    module = module_of()
    batch = batch_for(module)
    log_prob, entropy, value = torch.zeros(3, N)
    for name, terms in (("PPO", clipped(batch)), ("A2C", policy_gradient(batch))):
        with pytest.raises(ValueError, match=rf"{name} loss: value has shape \(48, 1\), expected \[N\] = \(48,\)"):
            terms(log_prob, entropy, value.unsqueeze(-1), advantage=batch.advantage)


def test_written_gradients_take_the_place_of_those_before_and_autograd_adds_the_same_to_them():
    module = module_of()
    batch = batch_for(module)
    for parameter in module.parameters():
        parameter.grad.fill_(torch.nan)
    assert backward(actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0], module)
    once = {name: gradient.clone() for name, gradient in gradients(module).items()}
    actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0].backward()
    torch.testing.assert_close(gradients(module), tree_map(lambda leaf: 2 * leaf, once))


def test_minibatches_of_any_sizes_in_turns_have_gradients_of_their_own():
    ours, theirs = module_of(), module_of(Recorded)
    whole = batch_for(ours)
    for size in (20, 21, 20, 21, 48, 1, 48):
        batch = Batch(
            **{
                name: value[:size]
                for name, value in dataclasses.asdict(whole).items()
                if value is not None and len(value)
            }
        )
        for module in (ours, theirs):
            backward(actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0], module)
        torch.testing.assert_close(gradients(ours), gradients(theirs), atol=2e-6, rtol=2e-5)


def test_losses_of_several_minibatches_can_be_added_up():
    ours, theirs = module_of(), module_of(Recorded)
    batch = batch_for(ours)
    parts = [
        Batch(**{name: value[half] for name, value in dataclasses.asdict(batch).items() if torch.is_tensor(value)})
        for half in (slice(0, N // 2), slice(N // 2, N))
    ]
    for module in (ours, theirs):
        (first, _, inputs), (second, *_) = (actor_critic_loss(module, part, SETTINGS, clipped(part)) for part in parts)
        assert not backward(first + second, module)
        with torch.no_grad():
            torch.testing.assert_close(inputs, module.forward_train(parts[0].obs)[0])
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=2e-6, rtol=2e-5)


def test_gradients_that_were_overwritten_are_not_given_out():
    module = module_of()
    batch = batch_for(module)
    first = actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0]
    first.backward(retain_graph=True)
    first.backward(retain_graph=True)
    actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0].backward()
    with pytest.raises(RuntimeError, match="another minibatch has taken their place"):
        first.backward()


def test_a_copy_computes_in_memory_of_its_own():
    module = module_of()
    batch = batch_for(module)
    backward(actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0], module)
    before = module.forward_train_vjp(batch.obs)
    values = before.value.clone()
    copied = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(2.0)
        assert not torch.equal(copied.forward_train_vjp(batch.obs).value, values)
    assert torch.equal(before.value, values)
    assert len(pickle.dumps(module)) < 2 * len(pickle.dumps(module_of()))


class Scaled(ActorCritic):
    def forward_train(self, obs, state=()):
        dist_inputs, value = super().forward_train(obs, state)
        return 0.5 * dist_inputs, value


class Loud(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return 2.0 * self.network(x)


def wrapped():
    module = module_of()
    module.value = Loud(module.value)
    return module


def hooked():
    module = module_of()
    module.policy.register_forward_hook(lambda network, args, result: 3.0 * result)
    return module


@pytest.mark.parametrize("make", [partial(module_of, Scaled), wrapped, hooked])
def test_what_changes_the_module_changes_its_loss(make):
    module, plain = make(), module_of()
    batch = batch_for(plain)
    assert knows(plain)
    assert not knows(module)
    (total, *_), (plain_total, *_) = (
        actor_critic_loss(each, batch, SETTINGS, clipped(batch)) for each in (module, plain)
    )
    assert total.item() != plain_total.item()


def test_a_network_put_in_anothers_place_is_the_one_that_learns():
    module = module_of()
    batch = batch_for(module)
    backward(actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0], module)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module.value = ActorCritic(OBS, ACTIONS["discrete"], ModelSettings(fcnet_hiddens=(32, 16))).value
    for parameter in module.value.parameters():
        parameter.grad = torch.zeros_like(parameter)
    backward(actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0], module)
    written = {name: gradient.clone() for name, gradient in gradients(module).items()}
    module.zero_grad()
    actor_critic_loss(module, batch, SETTINGS, clipped(batch), keep_graph=True)[0].backward()
    torch.testing.assert_close(gradients(module), written, atol=2e-6, rtol=2e-5)


def test_layers_that_two_networks_share_get_the_gradients_of_both():
    ours, theirs = module_of(), module_of(Recorded)
    batch = batch_for(ours)
    for module in (ours, theirs):
        module.value.weight_0, module.value.bias_0 = module.policy.weight_0, module.policy.bias_0
        backward(actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0], module)
    torch.testing.assert_close(gradients(ours), gradients(theirs), atol=2e-6, rtol=2e-5)


def test_a_copy_of_a_compiled_network_has_weights_of_its_own():
    module, obs = module_of(), torch.randn(3, 5)
    module.policy.compile(backend="eager")
    copied = copy.deepcopy(module)
    with torch.no_grad():
        before = copied.policy(obs)
        for parameter in module.parameters():
            parameter.mul_(2.0)
        torch.testing.assert_close(copied.policy(obs), before)


def test_a_compiled_network_is_called():
    module = module_of()
    module.policy.compile(backend="eager")
    assert not knows(module)


@pytest.mark.parametrize("context", [torch.no_grad, partial(torch.autocast, "cpu", dtype=torch.bfloat16)])
def test_other_modes_than_plain_training_are_left_to_autograd(context):
    ours, theirs = module_of(), module_of(Recorded)
    batch = batch_for(ours)
    with context():
        totals = [actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0] for module in (ours, theirs)]
    assert torch.equal(*totals)
    assert totals[0].requires_grad == (context is not torch.no_grad)


def test_a_frozen_network_stays_as_it_is():
    module = module_of()
    for parameter in module.value.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    batch = batch_for(module)
    backward(actor_critic_loss(module, batch, SETTINGS, clipped(batch))[0], module)
    assert all(parameter.grad is None for parameter in module.value.parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in module.policy.parameters())
