"""The env runner: steps a vector env with a policy and fills rollouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from rl_core._internal.tree import tree_map, tree_zip
from rl_core.env.check import find_bad_values
from rl_core.env.protocol import VectorEnv
from rl_core.errors import CheckpointError, EnvError
from rl_core.module.decide import decide, restart_state
from rl_core.policy import Policy
from rl_core.records import Decision, Rollout, Step, Tree, Weights
from rl_core.sampling.columns import allocate, as_tensors, row_of, write
from rl_core.sampling.episodes import Episode, EpisodeCounter, EpisodeStats
from rl_core.sampling.evaluate import evaluate
from rl_core.sampling.recorder import EpisodeRecorder


class EnvRunner:
    """Samples rollouts of `num_steps` steps from all slots of a vector env, going on where the last one ended."""

    def __init__(
        self,
        env: VectorEnv,
        policy: Policy,
        *,
        num_steps: int,
        seed: int,
        check_values: bool = True,
        on_episode_end: Callable[[Episode], None] | None = None,
    ) -> None:
        """Take ownership of the env.

        Args:
            env: Reset at the first `sample`.
            policy: Acts; its weights are set by `set_weights`.
            num_steps: T, steps per slot and rollout.
            seed: Of the env and of the actions.
            check_values: Look for rewards that are not finite and observations outside their space in each rollout.
            on_episode_end: Called with each finished episode; None saves the work of building them.
        """
        self.env = env
        self.policy = policy
        self.num_steps = num_steps
        self.check_values = check_values
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.episodes = EpisodeStats(returns=np.zeros(0), lengths=np.zeros(0, np.int64))
        self._counter = EpisodeCounter(env.num_envs)
        self._recorder = EpisodeRecorder(env.num_envs, on_episode_end) if on_episode_end else None
        self._step: Step | None = None
        self._state = policy.initial_state(env.num_envs)

    def sample(self) -> Rollout:
        """Step all slots T times and return what happened.

        Raises:
            EnvError: the env failed, or gave a reward or observation it must not.
        """
        step = self._step or self._reset()
        num_steps, policy = self.num_steps, self.policy
        columns = _Columns(step, num_steps)
        noise = policy.module.distribution.noise((num_steps, self.env.num_envs), self.generator)
        start = module_state = self._state.module
        connectors = self._state.connectors
        with torch.inference_mode():
            for time in range(num_steps):
                decision = decide(policy.module, row_of(columns.inputs, time), module_state, row_of(noise, time))
                raw = self.env.step(policy.action_chain(decision.action))
                if len(raw.final_slots):
                    columns.add_final(time, raw, self._final_inputs(connectors, raw))
                connectors, step = policy.obs_chain(connectors, raw)
                columns.add(time, decision, raw, step)
                module_state = restart_state(policy.module, decision.state, step.first)
            rollout = columns.rollout(policy.version, start)
        self._step = _own_obs(step)
        self._state = type(self._state)(module_state, connectors)
        policy.shared = policy.obs_chain.shared(connectors)
        self._finish(columns, rollout)
        return rollout

    def _reset(self) -> Step:
        """Start the first episodes."""
        connectors, step = self.policy.obs_chain(self._state.connectors, self.env.reset(self.seed))
        self._state = type(self._state)(self._state.module, connectors)
        return step

    def _final_inputs(self, connectors: Any, raw: Step) -> Tree:
        """Pass the true last observations `[K, ...]` through the connectors without disturbing their state."""
        if not self.policy.obs_chain.pieces:
            return raw.final_obs
        slots = raw.final_slots

        def put(current: np.ndarray, final: np.ndarray) -> np.ndarray:
            result = np.array(current)
            result[slots] = final
            return result

        whole = tree_map(put, raw.obs, raw.final_obs)
        looked_at = Step(
            obs=whole,
            reward=raw.reward,
            terminated=raw.terminated,
            truncated=raw.truncated,
            first=np.zeros_like(raw.first),
            artificial=raw.artificial,
            final_slots=slots[:0],
            final_obs=None,
            action=raw.action,
            infos=raw.infos,
        )
        _, step = self.policy.obs_chain(connectors, looked_at)
        return tree_map(lambda leaf: leaf[slots], step.obs)

    def _finish(self, columns: _Columns, rollout: Rollout) -> None:
        """Count finished episodes and check the values of a whole rollout at once."""
        done = columns.terminated | columns.truncated
        self.episodes = self._counter.count(columns.raw_reward, done, columns.artificial)
        if self.check_values:
            if not np.isfinite(columns.raw_reward).all():
                time, slot = np.argwhere(~np.isfinite(columns.raw_reward))[0]
                raise EnvError(
                    f"The env gave the reward {columns.raw_reward[time, slot]} at step {time} of slot {slot}; rewards "
                    "must be finite numbers. Check the env's reward computation (rl_core.testing.check_env helps)."
                )
            problem = find_bad_values(self.policy.obs_chain.output_space, columns.obs)
            if problem:
                raise EnvError(
                    f"An observation left its space: {problem}. Correct the env or its observation space, or set "
                    "environment(disable_env_checking=True) if you know better."
                )
        if self._recorder:
            self._recorder.add(rollout, columns.raw_reward)

    @property
    def policies(self) -> dict[str, Policy]:
        """The one policy it acts with."""
        return {"default": self.policy}

    def evaluate(self, *, num_episodes: int, seed: int, explore: bool) -> EpisodeStats:
        """Play exactly so many episodes; the episodes being sampled are given up."""
        self._step = None
        return evaluate(self.env, self.policy, num_episodes=num_episodes, seed=seed, explore=explore)

    def set_weights(self, weights: Weights) -> None:
        """Act with newer weights from the next step on."""
        self.policy.set_weights(weights)
        if weights.connector_state != ():
            connectors = self.policy.obs_chain.with_shared(self._state.connectors, weights.connector_state)
            self._state = type(self._state)(self._state.module, connectors)

    def get_weights(self) -> Weights:
        """Return the weights it acts with and the statistics that its observation connectors have gathered."""
        return Weights(
            version=self.policy.version,
            tensors=dict(self.policy.module.state_dict()),
            connector_state=self.policy.obs_chain.shared(self._state.connectors),
        )

    def get_state(self) -> dict[str, Any]:
        """Return all that the next rollout depends on; `env` is None where the env's state cannot be captured."""
        return {
            "generator": self.generator.get_state(),
            "env": self.env.get_state() if self._step else None,
            "step_obs": tree_map(np.asarray, self._step.obs) if self._step else None,
            "module_state": self._state.module,
            "connectors": tuple((part.shared, part.slots) for part in self._state.connectors),
            "open_return": self._counter.open_return,
            "open_length": self._counter.open_length,
            "num_envs": self.env.num_envs,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave; where the env's state is missing, new episodes begin.

        Raises:
            CheckpointError: the state does not belong to this env.
        """
        self.generator.set_state(state["generator"])
        pieces = [type(own)(*given) for own, given in zip(self._state.connectors, state["connectors"], strict=True)]
        shared = tuple(piece.shared for piece in pieces)
        if state["env"] is None or state["num_envs"] != self.env.num_envs:
            fresh = self.policy.obs_chain.with_shared(self.policy.initial_state(self.env.num_envs).connectors, shared)
            self._state = type(self._state)(self.policy.module.initial_state(self.env.num_envs), fresh)
            self._step = None
            return
        try:
            first = self.env.reset(self.seed)
            self.env.set_state(state["env"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"The saved env state does not fit this env: {error!r}.") from error
        self._step = _with_obs(first, state["step_obs"])
        self._state = type(self._state)(state["module_state"], tuple(pieces))
        self._counter.open_return, self._counter.open_length = state["open_return"], state["open_length"]

    def close(self) -> None:
        """Close the env."""
        self.env.close()


class _Columns:
    """The columns of one rollout while it is filled."""

    def __init__(self, first: Step, num_steps: int) -> None:
        shape = (num_steps, len(first.reward))
        self.obs = allocate(first.obs, num_steps + 1)
        write(self.obs, 0, first.obs)
        self.inputs = as_tensors(self.obs)
        self.reward = np.empty(shape, np.float32)
        self.raw_reward = np.empty(shape, np.float64)
        self.terminated = np.empty(shape, bool)
        self.truncated = np.empty(shape, bool)
        self.artificial = np.empty(shape, bool)
        self.decisions: list[Decision] = []
        self.final_index: list[np.ndarray] = []
        self.final_obs: list[Tree] = []

    def add(self, time: int, decision: Decision, raw: Step, step: Step) -> None:
        """Write one step: `raw` as the env gave it, `step` after the connectors."""
        write(self.obs, time + 1, step.obs)
        self.reward[time] = step.reward
        self.raw_reward[time] = raw.reward
        self.terminated[time] = raw.terminated
        self.truncated[time] = raw.truncated
        self.artificial[time] = raw.artificial
        self.decisions.append(decision)

    def add_final(self, time: int, raw: Step, inputs: Tree) -> None:
        """Keep the true last observations of the episodes that ended at this step."""
        self.final_index.append(time * len(raw.reward) + raw.final_slots)
        self.final_obs.append(tree_map(_as_column, inputs))

    def rollout(self, policy_version: int, state: Tree) -> Rollout:
        """Hand the columns over."""
        return Rollout(
            obs=self.inputs,
            action=tree_zip(torch.stack, [decision.action for decision in self.decisions]),
            reward=torch.from_numpy(self.reward),
            terminated=torch.from_numpy(self.terminated),
            truncated=torch.from_numpy(self.truncated),
            valid=torch.from_numpy(~self.artificial) if self.artificial.any() else None,
            final_index=torch.from_numpy(np.concatenate([*self.final_index, np.zeros(0, np.int64)]).astype(np.int64)),
            final_obs=as_tensors(tree_zip(np.concatenate, self.final_obs)) if self.final_obs else None,
            behavior_dist_inputs=torch.stack([decision.dist_inputs for decision in self.decisions]),
            policy_version=policy_version,
            state=state,
        )


def _as_column(leaf: np.ndarray) -> np.ndarray:
    """Keep floats in single precision, as the columns do."""
    return leaf.astype(np.float32) if leaf.dtype.kind == "f" else leaf


def _own_obs(step: Step) -> Step:
    """Copy the observation, which the env may overwrite at its next step."""
    return _with_obs(step, tree_map(np.array, step.obs))


def _with_obs(step: Step, obs: Tree) -> Step:
    """Return the step with another observation and no reward: what the next rollout begins with."""
    nothing = np.zeros_like(step.first)
    return Step(
        obs=obs,
        reward=np.zeros_like(step.reward),
        terminated=nothing,
        truncated=nothing,
        first=nothing,
        artificial=nothing,
        final_slots=step.final_slots[:0],
        final_obs=None,
    )
