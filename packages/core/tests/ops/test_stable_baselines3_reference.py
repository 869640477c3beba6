"""The functions in `ops/` against Stable-Baselines3 and its contrib package.

Where they have no function of their own for it, their `train()` runs on a fixed batch at learning rate 0, and their
networks give our functions the same inputs.
"""

import types

import numpy as np
import pytest
import torch
from clipped_loss import clipped_loss
from gymnasium import spaces

from rl_core.module.gaussian import SquashedGaussian
from rl_core.ops.distributional import quantile_huber_loss, truncated_mixture
from rl_core.ops.losses import LossCoefficients
from rl_core.ops.returns import explained_variance, gae
from rl_core.ops.sequences import sequence_n_step_target
from rl_core.ops.soft_actor_critic import actor_loss, smoothed_action, soft_target, temperature_loss
from rl_core.ops.value_learning import select, td_loss, td_target

sb3 = pytest.importorskip("stable_baselines3")
contrib = pytest.importorskip("sb3_contrib")

from sb3_contrib.common import utils as contrib_utils  # noqa: E402 # after importorskip
from stable_baselines3.common import buffers, logger, type_aliases, utils  # noqa: E402

N, GAMMA, ALPHA = 64, 0.9, 0.3
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SETTINGS = {"learning_rate": 0.0, "seed": 0, "device": "cpu", "gamma": GAMMA}


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_rollout(rows, slots):
    """Rewards, values and ends of episodes, of which none is truncated."""
    ends = torch.rand(rows, slots, generator=torch.Generator().manual_seed(3)) < 0.2
    return random(rows, slots), random(rows, slots, seed=1), ends


def with_fixed_batch(model, action):
    """Let the model draw one certain batch, report what its `train` reports, and have targets that differ."""
    obs, next_obs = random(2, N, model.observation_space.shape[0], seed=5)
    done = (torch.rand(N, 1, generator=torch.Generator().manual_seed(7)) < 0.3).float()
    reward = 3 * random(N, 1, seed=6)
    batch = type_aliases.ReplayBufferSamples(obs, action, next_obs, done, reward, None)
    model.replay_buffer.sample = lambda batch_size, env: batch
    model.set_logger(logger.Logger(None, []))
    for name in ("q_net_target", "critic_target", "actor_target"):
        for parameter in getattr(model, name, torch.nn.Module()).parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return types.SimpleNamespace(
        obs=obs, action=action, next_obs=next_obs, reward=reward[:, 0], discount=GAMMA * (1 - done[:, 0])
    )


def trained(model):
    """Train one gradient step from a fixed random state; return what was reported, and restore that state."""
    torch.manual_seed(11)
    model.train(gradient_steps=1, batch_size=N)
    torch.manual_seed(11)
    return {name.removeprefix("train/"): float(value) for name, value in model.logger.name_to_value.items()}


def continuous(algorithm, **settings):
    settings |= {"tau": 1e-12, "buffer_size": N, "policy_kwargs": {"net_arch": [8]}}
    model = algorithm("MlpPolicy", "Pendulum-v1", **SETTINGS, **settings)
    return model, with_fixed_batch(model, random(N, 1, seed=8).tanh())


def test_gae():
    buffer = buffers.RolloutBuffer(50, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), "cpu", 0.95, 0.99, n_envs=3)
    reward, value, done = random_rollout(50, 3)
    buffer.rewards[:], buffer.values[:] = reward.numpy(), value.numpy()
    buffer.episode_starts[1:] = done[:-1].numpy()
    buffer.compute_returns_and_advantage(torch.full((3, 1), 2.0), dones=done[-1].numpy())
    next_value = torch.cat((value[1:], torch.full((1, 3), 2.0)))
    result = gae(reward, value, next_value, done, torch.zeros_like(done), gamma=0.99, lambda_=0.95)
    np.testing.assert_allclose(result, buffer.advantages, **CLOSE)


@pytest.mark.parametrize("n_step", [1, 2, 3, 7])
def test_n_step_target(n_step):
    length = 60
    reward, _, terminated = random_rollout(length, 1)
    truncated = (torch.rand(length, 1, generator=torch.Generator().manual_seed(4)) < 0.1) & ~terminated
    buffer = buffers.NStepReplayBuffer(
        length + 1, spaces.Box(-1e3, 1e3, (1,)), spaces.Discrete(2), "cpu", n_steps=n_step, gamma=GAMMA
    )
    for time in range(length):
        buffer.add(
            np.full((1, 1), time),
            np.full((1, 1), time + 1.0),  # doubles as the value of the state
            np.zeros((1, 1)),
            reward[time].numpy(),
            (terminated | truncated)[time].numpy(),
            [{"TimeLimit.truncated": bool(truncated[time])}],
        )
    samples = buffer._get_samples(np.arange(length))
    expected = samples.rewards + samples.discounts * (1 - samples.dones) * samples.next_observations
    next_value = torch.arange(1.0, length + 1).unsqueeze(1)
    valid = torch.ones_like(terminated)
    target, _ = sequence_n_step_target(reward, terminated, truncated, valid, next_value, n_step=n_step, gamma=GAMMA)
    torch.testing.assert_close(target, expected, **CLOSE)


def test_explained_variance():
    prediction, target = random(N), random(N, seed=1) + 0.5 * random(N)
    expected = utils.explained_variance(prediction.numpy(), target.numpy())
    assert explained_variance(prediction, target).item() == pytest.approx(expected, rel=1e-5)
    assert np.isnan(utils.explained_variance(prediction.numpy(), np.ones(N)))
    assert explained_variance(prediction, torch.ones(N)).isnan()


def test_clipped_actor_critic_loss():
    model = sb3.PPO(
        "MlpPolicy",
        "CartPole-v1",
        n_steps=N,
        batch_size=N,
        n_epochs=1,
        clip_range=0.1,
        vf_coef=0.7,
        ent_coef=0.05,
        normalize_advantage=False,
        max_grad_norm=np.inf,
        policy_kwargs={"net_arch": [8]},
        **SETTINGS,
    )
    model.set_logger(logger.Logger(None, []))
    obs, action = random(N, 4, seed=5), torch.randint(2, (N, 1), generator=torch.Generator().manual_seed(6))
    policy, behavior_value, advantage, value_target = model.policy, *random(3, N, seed=2)
    with torch.no_grad():
        behavior_log_prob = policy.evaluate_actions(obs, action[:, 0])[1] + 0.2 * random(N)
    batch = type_aliases.RolloutBufferSamples(obs, action, behavior_value, behavior_log_prob, advantage, value_target)
    model.rollout_buffer.get = lambda batch_size: [batch]
    model.train()
    reported = model.logger.name_to_value
    value, log_prob, entropy = policy.evaluate_actions(obs, action[:, 0])
    ours = clipped_loss(
        log_prob,
        entropy,
        value[:, 0],
        behavior_log_prob=behavior_log_prob,
        behavior_value=behavior_value,
        advantage=advantage,
        value_target=value_target,
        coefficients=LossCoefficients(clip=0.1, value_clip=None, value=0.7, entropy=0.05),
    )
    assert ours.policy.item() == pytest.approx(reported["train/policy_gradient_loss"], rel=1e-5)
    assert ours.entropy.item() == pytest.approx(-reported["train/entropy_loss"], rel=1e-5)
    assert ours.kl.item() == pytest.approx(reported["train/approx_kl"], rel=1e-4)
    assert 0 < ours.clip_fraction.item() < 1
    assert ours.clip_fraction.item() == pytest.approx(reported["train/clip_fraction"])
    assert ours.value.item() == pytest.approx(reported["train/value_loss"], rel=1e-5)
    assert ours.total.item() == pytest.approx(reported["train/loss"], rel=1e-5)
    gradients = torch.autograd.grad(ours.total, list(policy.parameters()))
    torch.testing.assert_close(gradients, tuple(parameter.grad for parameter in policy.parameters()), **CLOSE)


def test_dqn_target_and_loss():
    model = sb3.DQN(
        "MlpPolicy", "CartPole-v1", max_grad_norm=np.inf, buffer_size=N, policy_kwargs={"net_arch": [8]}, **SETTINGS
    )
    action = torch.randint(2, (N, 1), generator=torch.Generator().manual_seed(8))
    batch = with_fixed_batch(model, action)
    reported = trained(model)
    with torch.no_grad():
        target = td_target(batch.reward, batch.discount, model.q_net_target(batch.next_obs).amax(1))
    loss, error = td_loss(select(model.q_net(batch.obs), action[:, 0]), target, kind="huber")
    assert (error.abs() > 1).any()
    assert (error.abs() < 1).any()
    assert loss.item() == pytest.approx(reported["loss"], rel=1e-5)
    expected = tuple(parameter.grad for parameter in model.q_net.parameters())
    torch.testing.assert_close(torch.autograd.grad(loss, list(model.q_net.parameters())), expected, **CLOSE)


def test_sac_targets_and_losses():
    model, batch = continuous(sb3.SAC, ent_coef=f"auto_{ALPHA}", target_entropy=-0.7)
    reported = trained(model)
    action, log_prob = model.actor.action_log_prob(batch.obs)
    alpha = model.log_ent_coef.detach().exp()[0]
    with torch.no_grad():
        next_action, next_log_prob = model.actor.action_log_prob(batch.next_obs)
        next_q = torch.cat(model.critic_target(batch.next_obs, next_action), 1).amin(1)
        target = soft_target(batch.reward, batch.discount, next_q, next_log_prob, alpha)
    losses = [td_loss(q[:, 0], target, kind="mse")[0] for q in model.critic(batch.obs, batch.action)]
    assert 0.5 * sum(losses).item() == pytest.approx(reported["critic_loss"], rel=1e-5)
    policy_loss = actor_loss(torch.cat(model.critic(batch.obs, action), 1).amin(1), log_prob, alpha)
    assert policy_loss.item() == pytest.approx(reported["actor_loss"], rel=1e-5)
    expected = tuple(parameter.grad for parameter in model.actor.parameters())
    torch.testing.assert_close(torch.autograd.grad(policy_loss, list(model.actor.parameters())), expected, **CLOSE)
    alpha_loss = temperature_loss(model.log_ent_coef[0], log_prob, -0.7)
    assert alpha_loss.item() == pytest.approx(reported["ent_coef_loss"], rel=1e-5)


def test_log_prob_of_squashed_actions():
    model, batch = continuous(sb3.SAC)
    action, log_prob = model.actor.action_log_prob(batch.obs)
    inputs = torch.cat(model.actor.get_action_dist_params(batch.obs)[:2], 1)
    inner = (action.abs() < 0.9).all(1)  # further out the 1e-6 that they add to a logarithm shows
    assert inner.sum() > N / 2
    ours = SquashedGaussian(np.array([-1.0]), np.array([1.0])).log_prob(inputs, action)
    torch.testing.assert_close(ours[inner], log_prob[inner], **CLOSE)


def test_td3_target():
    model, batch = continuous(sb3.TD3, policy_delay=1, target_policy_noise=0.8, target_noise_clip=0.5)
    reported = trained(model)
    noise = torch.empty(N, 1).normal_(0, 0.8)
    assert (noise.abs() > 0.5).any()
    with torch.no_grad():
        next_action = smoothed_action(
            model.actor_target(batch.next_obs), noise, 0.5, torch.tensor([-1.0]), torch.tensor([1.0])
        )
        next_q = torch.cat(model.critic_target(batch.next_obs, next_action), 1).amin(1)
        target = td_target(batch.reward, batch.discount, next_q)
    losses = [td_loss(q[:, 0], target, kind="mse")[0] for q in model.critic(batch.obs, batch.action)]
    assert sum(losses).item() == pytest.approx(reported["critic_loss"], rel=1e-5)


def test_tqc_target_and_loss():
    model, batch = continuous(contrib.TQC, ent_coef=ALPHA, top_quantiles_to_drop_per_net=3)
    reported = trained(model)
    model.actor.action_log_prob(batch.obs)  # draws first
    with torch.no_grad():
        next_action, next_log_prob = model.actor.action_log_prob(batch.next_obs)
        next_quantiles = model.critic_target(batch.next_obs, next_action).transpose(0, 1)  # [C, N, M]
        kept = truncated_mixture(next_quantiles, 3)
        target = torch.stack(
            [soft_target(batch.reward, batch.discount, column, next_log_prob, ALPHA) for column in kept.unbind(1)], 1
        )
    loss, _ = quantile_huber_loss(model.critic(batch.obs, batch.action).transpose(0, 1), target)
    assert loss.item() / 2 == pytest.approx(reported["critic_loss"], rel=1e-5), "theirs is the mean over critics"


@pytest.mark.parametrize("critics", [None, 3])
def test_quantile_huber_loss(critics):
    leading = () if critics is None else (critics,)
    quantiles = (2 * random(*leading, N, 5)).requires_grad_()
    target = 2 * random(N, 7, seed=1)
    loss, _ = quantile_huber_loss(quantiles, target)
    theirs = contrib_utils.quantile_huber_loss(
        quantiles if critics is None else quantiles.transpose(0, 1),
        target if critics is None else target.unsqueeze(1),
        sum_over_quantiles=False,
    )
    expected = theirs * (critics or 1)  # ours sums over critics
    torch.testing.assert_close(loss, expected, **CLOSE)
    torch.testing.assert_close(torch.autograd.grad(loss, quantiles), torch.autograd.grad(expected, quantiles), **CLOSE)


def test_quantile_huber_loss_of_qr_dqn_is_a_multiple():
    quantiles, target = random(N, 5), random(N, 5, seed=1)
    theirs = contrib_utils.quantile_huber_loss(quantiles, target, sum_over_quantiles=True)
    torch.testing.assert_close(5 * quantile_huber_loss(quantiles, target)[0], theirs, **CLOSE)
