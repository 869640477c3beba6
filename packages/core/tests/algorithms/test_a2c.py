"""The loss of A2C against the published formula, written out sample by sample."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_core import A2CConfig
from rl_core.algorithms.a2c import A2CSettings, loss
from rl_core.module.actor_critic import ActorCritic
from rl_core.records import Batch
from rl_core.testing.envs import CountdownEnv

N, GAMMA = 8, 0.9
OBS = spaces.Box(-1.0, 1.0, (4,), np.float32)


def make_batch(action, num_inputs):
    generator = torch.Generator().manual_seed(0)
    columns = (torch.randn(N, generator=generator).double() for _ in range(4))
    names = ("behavior_log_prob", "behavior_value", "advantage", "value_target")
    return Batch(
        obs=torch.randn(N, 4, generator=generator).double(),
        action=action,
        behavior_dist_inputs=torch.zeros(N, num_inputs).double(),
        **dict(zip(names, columns, strict=True)),
    )


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("kind", ["discrete", "box"])
def test_loss_is_the_published_one(kind, normalise):
    torch.manual_seed(0)
    space = spaces.Discrete(3) if kind == "discrete" else spaces.Box(-1.0, 1.0, (2,), np.float32)
    module = ActorCritic(OBS, space).double()
    action = torch.randint(3, (N,)) if kind == "discrete" else torch.randn(N, 2).double()
    batch = make_batch(action, module.distribution.num_inputs)
    settings = A2CSettings(vf_loss_coeff=0.7, entropy_coeff=0.2, normalize_advantage=normalise)
    total, report = loss(module, batch, settings)
    advantage = batch.advantage.tolist()
    if normalise:
        mean = sum(advantage) / N
        std = math.sqrt(sum((one - mean) ** 2 for one in advantage) / (N - 1))
        advantage = [(one - mean) / (std + 1e-8) for one in advantage]
    policy_loss = value_loss = entropy = kl = 0.0
    for n in range(N):
        inputs, value = module.forward_train(batch.obs[n])
        if kind == "discrete":
            log_probability = inputs.log_softmax(-1)
            log_prob = log_probability[action[n]]
            own_entropy = -(log_probability.exp() * log_probability).sum()
        else:
            mean, log_std = inputs[:2], inputs[2:]
            z = (action[n] - mean) / log_std.exp()
            log_prob = sum(-0.5 * z[d] ** 2 - log_std[d] - 0.5 * math.log(2 * math.pi) for d in range(2))
            own_entropy = sum(log_std[d] + 0.5 * math.log(2 * math.pi * math.e) for d in range(2))
        policy_loss = policy_loss - advantage[n] * log_prob / N
        value_loss = value_loss + (value - batch.value_target[n]) ** 2 / N
        entropy = entropy + own_entropy / N
        ratio = math.exp(float(log_prob.detach()) - float(batch.behavior_log_prob[n]))
        kl += (ratio - 1 - math.log(ratio)) / N
    expected = policy_loss + 0.7 * value_loss - 0.2 * entropy
    torch.testing.assert_close(total, expected)
    first, second = (torch.autograd.grad(one, list(module.parameters())) for one in (total, expected))
    torch.testing.assert_close(first, second)
    terms = (policy_loss, value_loss, entropy, kl)
    for name, term in zip(("policy_loss", "value_loss", "entropy", "kl"), terms, strict=True):
        assert float(report[name]) == pytest.approx(float(torch.as_tensor(term).detach())), name


def test_a_batch_is_one_step_of_the_optimizer_on_targets_of_five_steps():
    config = A2CConfig().environment(CountdownEnv, env_config={"length": 1000}).training(gamma=GAMMA)
    algorithm = config.build()
    rollout = algorithm.sample()
    assert rollout.reward.shape == (5, 8)
    batch, _ = config.objective.prepare(algorithm.learner.module, rollout, config.training.settings)
    value = algorithm.learner.module.forward_value(rollout.obs).detach()  # [6, 8]
    for t in range(5):
        for b in range(8):
            target = sum(GAMMA**k for k in range(5 - t)) + GAMMA ** (5 - t) * float(value[5, b])
            assert float(batch.value_target.view(5, 8)[t, b]) == pytest.approx(target, rel=1e-5)
    assert algorithm.learner.update(rollout)["learner/default/num_minibatches"] == 1
