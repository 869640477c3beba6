"""DQN and SAC as plain loops of eager torch over one env, after CleanRL: what the algorithms cost on their own.

They cut no corner that changes the result: transitions hold the true next observation, a truncated episode is
bootstrapped, and the reset steps of gymnasium's next-step autoreset are not stored. Nothing is configurable.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional

from benchmarks.work import ENV, PENDULUM, Figures, Work, measure_rate

DISCOUNT, HIDDEN = 0.99, 256

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""obs `[N, D]`, action `[N, ...]`, reward `[N]`, next_obs `[N, D]`, terminated `[N]` as 0 or 1."""


def network(num_inputs: int, num_outputs: int) -> nn.Module:
    """Return a 2x256 relu network."""
    return nn.Sequential(
        nn.Linear(num_inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, num_outputs)
    )


class Replay:
    """A ring of transitions in numpy arrays."""

    def __init__(self, capacity: int, envs: gymnasium.vector.VectorEnv, rng: np.random.Generator) -> None:
        obs, action = envs.single_observation_space, envs.single_action_space
        self.obs, self.next_obs = (np.zeros((capacity, *obs.shape), np.float32) for _ in range(2))
        self.action = np.zeros((capacity, *action.shape), action.dtype)
        self.reward, self.terminated = (np.zeros(capacity, np.float32) for _ in range(2))
        self.capacity, self.num_added, self.rng = capacity, 0, rng

    def add(self, obs: np.ndarray, action: np.ndarray, outcome: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """Store one transition; ``outcome`` is next obs, reward and whether it terminated, all `[1, ...]`."""
        place = self.num_added % self.capacity
        self.obs[place], self.action[place] = obs[0], action[0]
        self.next_obs[place], self.reward[place], self.terminated[place] = (column[0] for column in outcome)
        self.num_added += 1

    def sample(self, batch_size: int) -> Batch:
        """Draw transitions, each as likely as any other."""
        index = self.rng.integers(min(self.num_added, self.capacity), size=batch_size)
        columns = self.obs, self.action, self.reward, self.next_obs, self.terminated
        obs, action, reward, next_obs, terminated = (torch.from_numpy(column[index]) for column in columns)
        return obs, action, reward, next_obs, terminated


class Loop:
    """One env slot and its replay: acts, stores, and says when to learn."""

    def __init__(self, env: str, seed: int, capacity: int) -> None:
        self.envs = gymnasium.make_vec(env, num_envs=1, vectorization_mode="sync")
        self.envs.action_space.seed(seed)
        self.obs, _ = self.envs.reset(seed=seed)
        self.resetting = False  # the next step only resets
        self.replay = Replay(capacity, self.envs, np.random.default_rng(seed))
        self.episode_return = 0.0
        self.returns: list[float] = []

    def run(self, num_steps: int, act: Callable[[np.ndarray], np.ndarray], learn: Callable[[], None]) -> int:
        """Make ``num_steps`` env steps, each followed by ``learn``; return their number."""
        until = self.replay.num_added + num_steps
        while self.replay.num_added < until:
            action = act(self.obs)
            next_obs, reward, terminated, truncated, _ = self.envs.step(action)
            if not self.resetting:
                self.replay.add(self.obs, action, (next_obs, reward, terminated))
                self.episode_return += float(reward[0])
                learn()
            self.obs, self.resetting = next_obs, bool(terminated[0] or truncated[0])
            if self.resetting:
                self.returns.append(self.episode_return)
                self.episode_return = 0.0
        return num_steps


class BareDQN:
    """Deep Q-learning: Huber loss, a target network copied now and then, an action at random with probability epsilon.

    Source: Mnih et al. 2015.
    """

    BATCH_SIZE, LEARNING_STARTS, STEPS_PER_GRADIENT_STEP, STEPS_PER_COPY = 64, 1000, 4, 500
    LEAST_EPSILON, EPSILON_STEPS = 0.05, 10_000

    def __init__(self, work: Work) -> None:
        torch.manual_seed(work.seed)
        self.loop = Loop(ENV, work.seed, capacity=50_000)
        self.rng = np.random.default_rng(work.seed + 1)
        self.q, self.target = network(4, 2), network(4, 2)
        self.target.load_state_dict(self.q.state_dict())
        self.optimizer = torch.optim.Adam(self.q.parameters(), lr=5e-4)

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Choose an action `[1]`."""
        share = self.loop.replay.num_added / self.EPSILON_STEPS
        if self.rng.random() < max(self.LEAST_EPSILON, 1 + share * (self.LEAST_EPSILON - 1)):
            return self.loop.envs.action_space.sample()
        with torch.no_grad():
            return self.q(torch.from_numpy(obs)).argmax(-1).numpy()

    def learn(self) -> None:
        """Do what is due after an env step."""
        env_steps = self.loop.replay.num_added
        if env_steps < self.LEARNING_STARTS:
            return
        if env_steps % self.STEPS_PER_GRADIENT_STEP == 0:
            obs, action, reward, next_obs, terminated = self.loop.replay.sample(self.BATCH_SIZE)
            with torch.no_grad():
                goal = reward + DISCOUNT * (1 - terminated) * self.target(next_obs).amax(-1)
            value = self.q(obs).gather(-1, action[:, None]).squeeze(-1)
            loss = functional.huber_loss(value, goal)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        if env_steps % self.STEPS_PER_COPY == 0:
            self.target.load_state_dict(self.q.state_dict())


class BareSAC:
    """Soft actor-critic: two critics, a squashed Gaussian, a temperature that follows the entropy.

    Source: Haarnoja et al. 2018b.
    """

    BATCH_SIZE, LEARNING_STARTS, TAU, LR = 256, 100, 0.005, 3e-4

    def __init__(self, work: Work) -> None:
        torch.manual_seed(work.seed)
        self.loop = Loop(PENDULUM, work.seed, capacity=1_000_000)
        space = self.loop.envs.single_action_space
        self.scale = float(space.high[0])  # the bounds are symmetric
        self.actor = network(3, 2)
        self.critics = nn.ModuleList(network(4, 1) for _ in range(2))
        self.targets = deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=self.LR)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=self.LR)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=self.LR)

    def sample(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Draw actions `[N, 1]` and return them with their log probabilities `[N]`."""
        mean, log_std = self.actor(obs).chunk(2, -1)
        normal = Normal(mean, log_std.clamp(-20, 2).exp())
        raw = normal.rsample()
        # log of the derivative of tanh, in a form that does not lose digits
        slope = 2 * (np.log(2) - raw - functional.softplus(-2 * raw))
        log_prob = normal.log_prob(raw) - slope - np.log(self.scale)
        return raw.tanh() * self.scale, log_prob.sum(-1)

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Draw an action `[1, 1]`; at random until learning starts."""
        if self.loop.replay.num_added < self.LEARNING_STARTS:
            return self.loop.envs.action_space.sample()
        with torch.no_grad():
            return self.sample(torch.from_numpy(obs))[0].numpy()

    def learn(self) -> None:
        """Do one gradient step of critics, actor and temperature."""
        if self.loop.replay.num_added < self.LEARNING_STARTS:
            return
        obs, action, reward, next_obs, terminated = self.loop.replay.sample(self.BATCH_SIZE)
        alpha = self.log_alpha.detach().exp()
        with torch.no_grad():
            next_action, next_log_prob = self.sample(next_obs)
            next_q = self.least(self.targets, next_obs, next_action)
            goal = reward + DISCOUNT * (1 - terminated) * (next_q - alpha * next_log_prob)
        pair = torch.cat((obs, action), -1)
        critic_loss = sum(0.5 * functional.mse_loss(critic(pair).squeeze(-1), goal) for critic in self.critics)
        self.step(self.critic_optimizer, critic_loss)
        new_action, log_prob = self.sample(obs)
        self.step(self.actor_optimizer, (alpha * log_prob - self.least(self.critics, obs, new_action)).mean())
        entropy = -log_prob.detach().mean()
        self.step(self.alpha_optimizer, self.log_alpha * (entropy + action.shape[-1]))  # target: minus the dimensions
        with torch.no_grad():
            for slow, online in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                slow.lerp_(online, self.TAU)

    def least(self, critics: nn.ModuleList, obs: Tensor, action: Tensor) -> Tensor:
        """Return the smaller value of the two critics `[N]`."""
        pair = torch.cat((obs, action), -1)
        return torch.min(*(critic(pair).squeeze(-1) for critic in critics))

    def step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """Descend."""
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def dqn(work: Work) -> Figures:
    """Measure DQN: 2x256 relu network, batch 64, a gradient step per 4 env steps."""
    return _rate_of(BareDQN(work), work, 1000)


def sac(work: Work) -> Figures:
    """Measure SAC: 2x256 relu networks, batch 256, a gradient step per env step."""
    return _rate_of(BareSAC(work), work, 100)


def _rate_of(algorithm: BareDQN | BareSAC, work: Work, chunk: int) -> Figures:
    """Measure acting and learning, so many env steps at a time."""
    figures = measure_rate(work, lambda: algorithm.loop.run(chunk, algorithm.act, algorithm.learn))
    returns = algorithm.loop.returns[-100:]
    return {**figures, "episode_return_mean": sum(returns) / len(returns)}
