"""PPO in one file of plain eager torch, after CleanRL: what a loop costs when nothing is configurable.

It cuts no corner that changes the result: truncated episodes are bootstrapped from their true last observation, the
reset steps of gymnasium's next-step autoreset do not train, and returns are tracked. It has no connectors, no other
action spaces, no checks and no checkpoints. DQN and SAC stand in `bare_replay.py`.
"""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peers.bare_replay import dqn, sac
from benchmarks.work import ENV, Figures, Work, measure_rate

__all__ = ["dqn", "loop", "sac", "sampling"]

DISCOUNT, GAE_LAMBDA, CLIP, VALUE_WEIGHT, MAX_GRAD_NORM = 0.99, 0.95, 0.2, 0.5, 0.5


def network(num_inputs: int, num_outputs: int) -> nn.Module:
    """Return a 2x64 tanh network."""
    return nn.Sequential(nn.Linear(num_inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, num_outputs))


class BarePPO:
    """The whole algorithm: `sample` and `update`."""

    def __init__(self, work: Work) -> None:
        torch.manual_seed(work.seed)
        self.work = work
        self.envs = gymnasium.make_vec(ENV, num_envs=work.num_envs, vectorization_mode=work.vector)
        self.policy, self.value = network(4, 2), network(4, 1)
        self.parameters = [*self.policy.parameters(), *self.value.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=work.lr, eps=1e-5)
        self.obs, _ = self.envs.reset(seed=work.seed)
        self.resetting = np.zeros(work.num_envs, dtype=bool)  # [B]: the next step only resets
        self.episode_return = np.zeros(work.num_envs)
        self.returns: list[float] = []

    @torch.no_grad()
    def sample(self) -> tuple[Tensor, ...]:
        """Step all slots; return obs `[T + 1, B, 4]` and action, log_prob, reward, terminated, done, valid `[T, B]`."""
        shape = (self.work.num_steps, self.work.num_envs)
        obs = np.zeros((shape[0] + 1, shape[1], 4), dtype=np.float32)
        action, reward = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
        terminated, done, valid = (np.zeros(shape, dtype=bool) for _ in range(3))
        logits = torch.empty(*shape, 2)
        gumbel = -torch.empty(*shape, 2).exponential_().log_()
        for t in range(shape[0]):
            obs[t], valid[t] = self.obs, ~self.resetting
            logits[t] = self.policy(torch.from_numpy(obs[t]))
            action[t] = (logits[t] + gumbel[t]).argmax(-1).numpy()
            self.obs, reward[t], terminated[t], truncated, _ = self.envs.step(action[t])
            done[t] = self.resetting = terminated[t] | truncated
            self.episode_return += reward[t]
            if self.resetting.any():
                self.returns.extend(self.episode_return[self.resetting])
                self.episode_return[self.resetting] = 0
        obs[-1] = self.obs
        actions = torch.from_numpy(action)
        log_prob = logits.log_softmax(-1).gather(-1, actions[..., None]).squeeze(-1)
        return torch.from_numpy(obs), actions, log_prob, *map(torch.from_numpy, (reward, terminated, done, valid))

    @torch.no_grad()
    def advantages(self, value: Tensor, reward: Tensor, terminated: Tensor, done: Tensor) -> Tensor:
        """Return GAE `[T, B]`; ``value`` is `[T + 1, B]`, and its row after a last step is of the true last obs."""
        delta = reward + DISCOUNT * value[1:] * ~terminated - value[:-1]
        decay = DISCOUNT * GAE_LAMBDA * ~done
        advantage = torch.empty_like(delta)
        following = torch.zeros(delta.shape[1])
        for t in reversed(range(len(delta))):
            advantage[t] = following = torch.addcmul(delta[t], decay[t], following)
        return advantage

    def update(self, obs: Tensor, action: Tensor, log_prob: Tensor, *outcome: Tensor) -> None:
        """Run the epochs of minibatch steps on one rollout."""
        *outcome, valid = outcome
        with torch.no_grad():
            value = self.value(obs).squeeze(-1)
        advantage = self.advantages(value, *outcome)
        target = (advantage + value[:-1])[valid]
        columns = obs[:-1][valid], action[valid], log_prob[valid], advantage[valid], target
        for _ in range(self.work.num_epochs):
            for index in torch.randperm(len(target)).split(self.work.minibatch_size):
                loss = self.loss(*(column[index] for column in columns))
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, MAX_GRAD_NORM)
                self.optimizer.step()

    def loss(self, obs: Tensor, action: Tensor, log_prob: Tensor, advantage: Tensor, target: Tensor) -> Tensor:
        """Return the clipped surrogate plus the weighted value loss; every argument is `[N, ...]`."""
        new_log_prob = self.policy(obs).log_softmax(-1).gather(-1, action[:, None]).squeeze(-1)
        ratio = (new_log_prob - log_prob).exp()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        surrogate = torch.min(advantage * ratio, advantage * ratio.clamp(1 - CLIP, 1 + CLIP))
        value_loss = functional.mse_loss(self.value(obs).squeeze(-1), target)
        return VALUE_WEIGHT * value_loss - surrogate.mean()


def loop(work: Work) -> Figures:
    """Measure sampling and learning in turn."""
    ppo = BarePPO(work)

    def iterate() -> int:
        rollout = ppo.sample()
        ppo.update(*rollout)
        return int(rollout[-1].sum())

    figures = measure_rate(work, iterate)
    return {**figures, "episode_return_mean": float(np.mean(ppo.returns[-100:]))}


def sampling(work: Work) -> Figures:
    """Measure sampling alone."""
    ppo = BarePPO(work)
    return measure_rate(work, lambda: int(ppo.sample()[-1].sum()))
