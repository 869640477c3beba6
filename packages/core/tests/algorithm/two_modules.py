"""An extension as another package would write it: two modules, each with PPO settings of its own, in one env.

The env has Dict observations and Dict actions with one part per module. Each module sees its part and trains on the
common reward with a learner of its own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from rl_core import Components, Decision, Extension, Learner, ModelSettings, Policy
from rl_core.algorithm.components import make_env
from rl_core.connect.required import ActionToEnv
from rl_core.learning.optimizer import optimizer_factory
from rl_core.module.spec import ModuleSpec
from rl_core.rng import stream_seed
from rl_core.sampling.columns import RolloutColumns, rows_of
from rl_core.sampling.episodes import EpisodeCounter, EpisodeStats
from rl_core.sampling.join import join_rollouts
from rl_core.sampling.protocol import SingleRunner
from rl_core.tree import tree_map

SIDES = ("left", "right")


class TwoSidesEnv(gymnasium.Env):
    """Each side sees a target and is paid for naming it; episodes are truncated after 10 steps."""

    observation_space = spaces.Dict(left=spaces.Box(-1, 1, (2,)), right=spaces.Box(-1, 1, (3,)))
    action_space = spaces.Dict(left=spaces.Discrete(2), right=spaces.Discrete(3))

    def __init__(self):
        self.time, self.targets = 0, {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._obs(), {}

    def step(self, action):
        reward = sum(float(action[side] == target) for side, target in self.targets.items())
        self.time += 1
        return self._obs(), reward, False, self.time == 10, {}

    def _obs(self):
        self.targets = {"left": int(self.np_random.integers(2)), "right": int(self.np_random.integers(3))}
        sizes = {"left": 2, "right": 3}
        return {side: np.eye(sizes[side], dtype=np.float32)[target] for side, target in self.targets.items()}


@dataclass(frozen=True)
class TwoModules(Extension):
    left_lr: float = 3e-3
    right_lr: float = 1e-3
    hiddens: tuple[int, ...] = (8,)

    def components(self, components: Components) -> Components:
        return replace(components, env_runner=self.make_runner, learner=self.make_learner)

    def make_runner(self, config: Any, purpose: Any, context: Any) -> TwoRunner:
        env, seed = make_env(config, purpose), config.debugging.seed
        spec = ModuleSpec(model_config=ModelSettings(fcnet_hiddens=self.hiddens))
        policies = {
            side: Policy(
                spec,
                env.observation_space[side],
                env.action_space[side],
                action_connectors=[ActionToEnv()],
                seed=stream_seed(seed, "module", side),
            )
            for side in SIDES
        }
        num_steps = config.training.train_batch_size_per_learner // env.num_envs
        return TwoRunner(env, policies, num_steps=num_steps, seed=context.stream_seed(config, purpose))

    def make_learner(self, config: Any, runner: TwoRunner) -> TwoLearners:
        rates, seed = {"left": self.left_lr, "right": self.right_lr}, config.debugging.seed
        learners = {}
        for side, policy in runner.policies.items():
            settings = dataclasses.replace(config.training.settings, lr=rates[side])
            learners[side] = Learner(
                policy.build_module(seed=stream_seed(seed, "module", side)),
                settings,
                config.objective,
                make_optimizer=optimizer_factory(config.learners.settings, settings),
                seed=stream_seed(seed, "learner", side),
                name=side,
            )
        return TwoLearners(learners)


@dataclass(frozen=True)
class TwoRollouts:
    by_side: dict
    env_steps: int


class TwoLearners:
    def __init__(self, learners):
        self.learners = learners

    def update(self, rollouts):
        metrics = {}
        for side, learner in self.learners.items():
            metrics |= learner.update(rollouts.by_side[side])
        return metrics

    def weights(self):
        return {side: learner.weights() for side, learner in self.learners.items()}


class TwoRunner(SingleRunner):
    def __init__(self, env, policies, *, num_steps, seed):
        self.env, self._policies, self.num_steps, self.seed = env, policies, num_steps, seed
        self.generator = torch.Generator().manual_seed(seed)
        self.episodes = EpisodeStats(returns=np.zeros(0), lengths=np.zeros(0, np.int64))
        self.counter = EpisodeCounter(env.num_envs)
        self.num_bad_observations = self.num_env_restarts = 0
        self.step_ = None

    @property
    def policies(self):
        return self._policies

    @staticmethod
    def join(rollouts):
        by_side = {side: join_rollouts([part.by_side[side] for part in rollouts]) for side in SIDES}
        return TwoRollouts(by_side, sum(part.env_steps for part in rollouts))

    def sample(self):
        step = self.step_ or self.env.reset(self.seed)
        columns = {side: RolloutColumns(part_of(step, side), self.num_steps) for side in SIDES}
        with torch.inference_mode():
            inputs = {side: rows_of(columns[side].inputs, self.num_steps) for side in SIDES}
            for time in range(self.num_steps):
                rows = {side: inputs[side][time] for side in SIDES}
                decisions, actions = self.decide(rows, self.generator)
                step = self.env.step(actions)
                for side in SIDES:
                    part = part_of(step, side)
                    if len(part.final_slots):
                        columns[side].add_final(time, part.final_slots, part.final_obs, ())
                    columns[side].add(time, decisions[side], part, part.obs, part.reward)
            rollouts = {side: columns[side].rollout(self.policies[side].version, None) for side in SIDES}
        self.step_ = replace(step, obs=tree_map(np.array, step.obs))
        some = columns["left"]
        self.episodes = self.counter.count(some.raw_reward, some.terminated | some.truncated, some.artificial)
        return TwoRollouts(rollouts, rollouts["left"].env_steps)

    def decide(self, rows, generator):
        decisions, actions = {}, {}
        for side, policy in self.policies.items():
            dist_inputs, _ = policy.module.forward_policy(rows[side], ())
            distribution = policy.module.distribution
            if generator is None:
                action = distribution.mode(dist_inputs)
            else:
                action = distribution.sample(dist_inputs, distribution.noise((self.env.num_envs,), generator))
            decisions[side] = Decision(action=action, dist_inputs=dist_inputs)
            _, actions[side] = policy.action_chain(((),), action, np.zeros(self.env.num_envs, bool))
        return decisions, actions

    def evaluate(self, *, num_episodes, seed, explore):
        self.step_ = None
        generator = torch.Generator().manual_seed(seed) if explore else None
        step, counter, returns, lengths = self.env.reset(seed), EpisodeCounter(self.env.num_envs), [], []
        with torch.inference_mode():
            while len(returns) < num_episodes:  # all episodes have one length here
                _, actions = self.decide({side: torch.from_numpy(step.obs[side]) for side in SIDES}, generator)
                step = self.env.step(actions)
                done = (step.terminated | step.truncated)[None]
                stats = counter.count(step.reward[None], done, step.artificial[None])
                returns += stats.returns.tolist()
                lengths += stats.lengths.tolist()
        return EpisodeStats(returns=np.array(returns[:num_episodes]), lengths=np.array(lengths[:num_episodes]))

    def set_weights(self, weights):
        for side, policy in self.policies.items():
            policy.set_weights(weights[side])

    def get_weights(self):
        from rl_core import Weights

        return {
            side: Weights(version=policy.version, tensors=dict(policy.module.state_dict()))
            for side, policy in self.policies.items()
        }

    def get_state(self):
        return {
            "generator": self.generator.get_state(),
            "env": self.env.get_state() if self.step_ else None,
            "obs": self.step_.obs if self.step_ else None,
            "open_return": self.counter.open_return,
            "open_length": self.counter.open_length,
        }

    def set_state(self, state):
        self.generator.set_state(state["generator"])
        self.counter.open_return, self.counter.open_length = state["open_return"], state["open_length"]
        self.step_ = None
        if state["env"] is not None:
            first = self.env.reset(self.seed)
            self.env.set_state(state["env"])
            self.step_ = replace(first, obs=state["obs"])

    def close(self):
        self.env.close()


def part_of(step, side):
    """What one module sees of a step."""
    return replace(step, obs=step.obs[side], final_obs=None if step.final_obs is None else step.final_obs[side])
