"""The losses of SAC, TD3 and TQC against the published formulas, written out sample by sample."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_core import SACConfig, TD3Config, TQCConfig
from rl_core.learning.replay_learner import Draw
from rl_core.replay.records import Transitions

N, GAMMA, ALPHA = 7, 0.9, 0.3
OBS = spaces.Box(-1.0, 1.0, (4,), np.float32)
LOW, HIGH = [-2.0, 0.5], [1.0, 3.0]
BOX = spaces.Box(np.array(LOW, np.float32), np.array(HIGH, np.float32))
CHOICE = spaces.Discrete(3)
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def make_module(config, action_space, parts, **training):
    """A module, targets that differ from it, and the settings."""
    config.training(gamma=GAMMA, **training)
    config.rl_module(model_config={"fcnet_hiddens": (6,), "policy_head_gain": 1.0})
    module, other = (config.module_spec().build(OBS, action_space, seed=seed) for seed in (0, 1))
    targets = {part: getattr(other, part).requires_grad_(False) for part in parts}
    return module, targets, config.training.settings


def make_batch(action_space):
    generator = torch.Generator().manual_seed(5)
    action_space.seed(0)
    return Transitions(
        obs=torch.randn(N, 4, generator=generator),
        action=torch.from_numpy(np.stack([action_space.sample() for _ in range(N)])),
        reward=2 * torch.randn(N, generator=generator),
        next_obs=torch.randn(N, 4, generator=generator),
        discount=torch.tensor([GAMMA, 0.0, GAMMA**2, GAMMA, 0.0, GAMMA**3, GAMMA]),
        index=torch.arange(N),
        weight=torch.rand(N, generator=generator),
    )


def parameters(module, *parts):
    return {name: value for name, value in module.named_parameters() if name.split(".")[0] in parts}


def assert_same_gradient(loss, expected, module, *parts):
    """Losses agree, and so do their gradients to the parameters of the parts."""
    torch.testing.assert_close(loss.double(), expected.double(), **CLOSE)
    wanted = list(parameters(module, *parts).values())
    first, second = (torch.autograd.grad(one, wanted, retain_graph=True) for one in (loss, expected))
    assert any(float(gradient.abs().sum()) > 0 for gradient in first)
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)


def squashed(outputs, noise):
    """The action of one sample and its log density, by the change of variables of tanh."""
    size = len(LOW)
    action, log_prob = [], 0.0
    for d in range(size):
        mean, log_std = outputs[d].double(), outputs[size + d].double()
        half = (HIGH[d] - LOW[d]) / 2
        u = mean + log_std.exp() * float(noise[d])
        action.append(LOW[d] + half * (u.tanh() + 1))
        density = -0.5 * ((u - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
        log_prob = log_prob + density - (half * (1 - u.tanh() ** 2)).log()
    return torch.stack(action).float(), log_prob


def test_sac_losses_are_the_published_ones():
    config = SACConfig()
    module, targets, settings = make_module(config, BOX, ["critic"], initial_alpha=ALPHA, target_entropy=-1.5)
    batch = make_batch(BOX)
    result = config.objective.losses(module, targets, batch, settings, Draw(torch.Generator().manual_seed(2), 0))
    generator = torch.Generator().manual_seed(2)
    next_noise, noise = (torch.randn(N, 2, generator=generator) for _ in range(2))
    critic_loss = policy_loss = mean_log_prob = 0.0
    largest = []
    for n in range(N):
        next_action, next_log_prob = squashed(module.policy(batch.next_obs[n]).detach(), next_noise[n])
        next_q = min(targets["critic"](batch.next_obs[n], next_action).flatten().tolist())
        goal = float(batch.reward[n]) + float(batch.discount[n]) * (next_q - ALPHA * float(next_log_prob))
        q = module.critic(batch.obs[n], batch.action[n]).flatten()
        critic_loss = critic_loss + sum(0.5 * batch.weight[n] * (one - goal) ** 2 for one in q) / N
        largest.append(max(abs(float(one.detach()) - goal) for one in q))
        action, log_prob = squashed(module.policy(batch.obs[n]), noise[n])
        value = module.critic(batch.obs[n], action).flatten()
        policy_loss = policy_loss + (ALPHA * log_prob - torch.minimum(value[0], value[1])) / N
        mean_log_prob += float(log_prob.detach()) / N
    alpha_loss = -module.log_alpha * (mean_log_prob - 1.5)
    assert_same_gradient(result.by_group["critic"], critic_loss, module, "critic")
    assert_same_gradient(result.by_group["actor"], policy_loss, module, "policy")
    assert_same_gradient(result.by_group["alpha"], alpha_loss, module, "log_alpha")
    torch.testing.assert_close(result.td_error, torch.tensor(largest), **CLOSE)
    assert float(result.report["entropy"]) == pytest.approx(-mean_log_prob, rel=1e-5)
    assert float(result.report["alpha"]) == pytest.approx(ALPHA)
    assert set(result.report) == set(config.objective.report)


def test_sac_losses_for_discrete_actions_are_the_published_ones():
    config = SACConfig()
    module, targets, settings = make_module(config, CHOICE, ["critic"], initial_alpha=ALPHA)
    batch = make_batch(CHOICE)
    result = config.objective.losses(module, targets, batch, settings, Draw(torch.Generator(), 0))
    critic_loss = policy_loss = mean_entropy = 0.0
    for n in range(N):
        probability = module.policy(batch.next_obs[n]).detach().softmax(-1).tolist()
        slow = targets["critic"](batch.next_obs[n])  # [C, A]
        next_value = sum(p * (min(slow[:, a].tolist()) - ALPHA * math.log(p)) for a, p in enumerate(probability))
        goal = float(batch.reward[n]) + float(batch.discount[n]) * next_value
        q = module.critic(batch.obs[n])
        critic_loss = critic_loss + sum(0.5 * batch.weight[n] * (row[batch.action[n]] - goal) ** 2 for row in q) / N
        own = module.policy(batch.obs[n]).softmax(-1)
        for a in range(3):
            policy_loss = policy_loss + own[a] * (ALPHA * own[a].log() - min(q[:, a].tolist())) / N
            mean_entropy -= float((own[a] * own[a].log()).detach()) / N
    alpha_loss = -module.log_alpha * (-mean_entropy + 0.98 * math.log(3))
    assert_same_gradient(result.by_group["critic"], critic_loss, module, "critic")
    assert_same_gradient(result.by_group["actor"], policy_loss, module, "policy")
    assert_same_gradient(result.by_group["alpha"], alpha_loss, module, "log_alpha")


@pytest.mark.parametrize("policy_delay", [1, 2, 3])
def test_td3_losses_are_the_published_ones(policy_delay):
    config, deviation, clip = TD3Config(), 0.8, 0.5
    module, targets, settings = make_module(
        config, BOX, ["policy", "critic"], policy_delay=policy_delay, target_noise=deviation, target_noise_clip=clip
    )
    batch = make_batch(BOX)
    noise = torch.randn(N, 2, generator=torch.Generator().manual_seed(2))
    assert (deviation * noise).abs().max() > clip, "some of the noise is clipped"
    critic_loss = policy_loss = 0.0
    num_clipped = 0
    for n in range(N):
        smoothed = []
        for d, one in enumerate(targets["policy"](batch.next_obs[n]).tolist()):
            half = (HIGH[d] - LOW[d]) / 2
            noisy = one + half * min(max(deviation * float(noise[n, d]), -clip), clip)
            smoothed.append(min(max(noisy, LOW[d]), HIGH[d]))
            num_clipped += smoothed[-1] != noisy
        next_q = min(targets["critic"](batch.next_obs[n], torch.tensor(smoothed)).flatten().tolist())
        goal = float(batch.reward[n]) + float(batch.discount[n]) * next_q
        q = module.critic(batch.obs[n], batch.action[n]).flatten()
        critic_loss = critic_loss + sum(batch.weight[n] * (one - goal) ** 2 for one in q) / N
        policy_loss = policy_loss - module.critic(batch.obs[n], module.policy(batch.obs[n])).flatten()[0] / N
    for step in range(6):
        draw = Draw(torch.Generator().manual_seed(2), step)
        result = config.objective.losses(module, targets, batch, settings, draw)
        assert_same_gradient(result.by_group["critic"], critic_loss, module, "critic")
        trains_actor = (step + 1) % policy_delay == 0  # algorithm 1 counts from 1
        assert ("actor" in result.by_group) == trains_actor
        assert set(result.report) == set(config.objective.report) - (set() if trains_actor else {"policy_loss"})
        if trains_actor:
            assert_same_gradient(result.by_group["actor"], policy_loss, module, "policy")


def test_tqc_losses_are_the_published_ones():
    config, critics, quantiles, drop = TQCConfig(), 3, 5, 2
    module, targets, settings = make_module(
        config,
        BOX,
        ["critic"],
        n_critics=critics,
        n_quantiles=quantiles,
        top_quantiles_to_drop_per_net=drop,
        initial_alpha=ALPHA,
    )
    batch = make_batch(BOX)
    result = config.objective.losses(module, targets, batch, settings, Draw(torch.Generator().manual_seed(2), 0))
    generator = torch.Generator().manual_seed(2)
    next_noise, noise = (torch.randn(N, 2, generator=generator) for _ in range(2))
    critic_loss = policy_loss = mean_log_prob = 0.0
    for n in range(N):
        next_action, next_log_prob = squashed(module.policy(batch.next_obs[n]).detach(), next_noise[n])
        pooled = sorted(targets["critic"](batch.next_obs[n], next_action).flatten().tolist())
        kept = pooled[: critics * (quantiles - drop)]
        goals = [
            float(batch.reward[n]) + float(batch.discount[n]) * (one - ALPHA * float(next_log_prob)) for one in kept
        ]
        for row in module.critic(batch.obs[n], batch.action[n]):
            for place, quantile in enumerate(row):
                tau = (place + 0.5) / quantiles
                for goal in goals:
                    error = goal - quantile
                    size = abs(float(error.detach()))
                    huber = error**2 / 2 if size <= 1 else error.abs() - 0.5
                    share = abs(tau - float(error.detach() < 0)) * huber / (quantiles * len(goals))
                    critic_loss = critic_loss + batch.weight[n] * share / N
        action, log_prob = squashed(module.policy(batch.obs[n]), noise[n])
        value = module.critic(batch.obs[n], action)
        policy_loss = policy_loss + (ALPHA * log_prob - sum(value.flatten()) / (critics * quantiles)) / N
        mean_log_prob += float(log_prob.detach()) / N
    alpha_loss = -module.log_alpha * (mean_log_prob - 2.0)  # auto: minus the number of action dimensions
    assert_same_gradient(result.by_group["critic"], critic_loss, module, "critic")
    assert_same_gradient(result.by_group["actor"], policy_loss, module, "policy")
    assert_same_gradient(result.by_group["alpha"], alpha_loss, module, "log_alpha")


MADE = {
    "sac": lambda: (SACConfig(), *make_module(SACConfig(), BOX, ["critic"]), BOX),
    "sac discrete": lambda: (SACConfig(), *make_module(SACConfig(), CHOICE, ["critic"]), CHOICE),
    "tqc": lambda: (TQCConfig(), *make_module(TQCConfig(), BOX, ["critic"]), BOX),
    "td3": lambda: (TD3Config(), *make_module(TD3Config(), BOX, ["policy", "critic"], policy_delay=1), BOX),
}


@pytest.mark.parametrize("name", MADE)
def test_no_loss_reaches_the_targets_and_that_of_the_critics_not_the_actor(name):
    config, module, targets, settings, space = MADE[name]()
    for part in targets.values():
        part.requires_grad_(True)
    result = config.objective.losses(module, targets, make_batch(space), settings, Draw(torch.Generator(), 0))

    def reached(loss, wanted):
        gradients = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        return any(gradient is not None and bool(gradient.any()) for gradient in gradients)

    slow = [parameter for part in targets.values() for parameter in part.parameters()]
    assert not any(reached(loss, slow) for loss in result.by_group.values())
    for group, parts in {
        "critic": ("policy", "log_alpha"),
        "actor": ("log_alpha",),
        "alpha": ("policy", "critic"),
    }.items():
        others = list(parameters(module, *parts).values())
        if group in result.by_group and others:
            assert not reached(result.by_group[group], others), group
