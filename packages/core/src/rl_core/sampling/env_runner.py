"""The env runner: steps a vector env with a policy and fills rollouts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Space

from rl_core._internal.tree import tree_leaves, tree_map
from rl_core.connect.protocol import ConnectorState
from rl_core.env.check import find_bad_values
from rl_core.env.protocol import VectorEnv
from rl_core.errors import CheckpointError, EnvError
from rl_core.policy import Policy, PolicyState, restart_state
from rl_core.records import Decision, Rollout, Step, Tree, Weights
from rl_core.sampling.columns import RolloutColumns, row_of
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
        module, distribution = policy.module, policy.module.distribution
        columns = RolloutColumns(step, num_steps)
        noise = distribution.noise((num_steps, self.env.num_envs), self.generator)
        state = self._state.module
        if recurrent := state != ():
            columns.states.append(state)
        connectors = self._state.connectors
        with torch.inference_mode():
            for time in range(num_steps):
                dist_inputs, state = module.forward_policy(row_of(columns.inputs, time), state)
                action = distribution.sample(dist_inputs, row_of(noise, time))
                raw = self.env.step(policy.action_chain(action))
                if len(raw.final_slots):
                    final = self._final_inputs(connectors, raw) if connectors else raw.final_obs
                    columns.add_final(time, raw.final_slots, final, state)
                step = raw
                if connectors:
                    connectors, step = policy.obs_chain(connectors, raw)
                columns.add(time, Decision(action=action, dist_inputs=dist_inputs, state=state), raw, step)
                if recurrent:
                    if step.first.any():
                        state = restart_state(module, state, step.first)
                    columns.states.append(state)
            rollout = columns.rollout(policy.version)
        self._step = _without_past(step)
        self._state = PolicyState(state, connectors)
        policy.shared = tuple(part.shared for part in connectors)
        self._finish(columns, rollout)
        return rollout

    def _reset(self) -> Step:
        """Start new episodes in all slots."""
        num_envs = self.env.num_envs
        self._counter = EpisodeCounter(num_envs)
        if self._recorder:
            self._recorder.set_state(None)
        connectors, step = self.policy.obs_chain(self._state.connectors, self.env.reset(self.seed))
        self._state = PolicyState(self.policy.module.initial_state(num_envs), connectors)
        return step

    def _final_inputs(self, connectors: Any, raw: Step) -> Tree:
        """Pass the true last observations `[K, ...]` through the connectors without disturbing their state."""
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

    def _finish(self, columns: RolloutColumns, rollout: Rollout) -> None:
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
            space = self.policy.obs_chain.output_space
            problem = find_bad_values(space, columns.obs)
            if rollout.final_obs is not None and not problem:
                final = tree_map(lambda leaf: leaf.numpy()[np.newaxis], rollout.final_obs)  # [1, K, ...]
                if find_bad_values(space, final):
                    problem = _describe_bad_final(space, final, rollout)
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
            self._state = PolicyState(self._state.module, connectors)

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
            "seed": self.seed,
            "started": self._step is not None,
            "env": self.env.get_state() if self._step else None,
            "step_obs": tree_map(np.asarray, self._step.obs) if self._step else None,
            "module_state": self._state.module,
            "connectors": tuple((part.shared, part.slots) for part in self._state.connectors),
            "open_return": self._counter.open_return,
            "open_length": self._counter.open_length,
            "open_episodes": self._recorder.get_state() if self._recorder else None,
            "num_envs": self.env.num_envs,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave; where the env's state is missing, new episodes begin.

        Raises:
            CheckpointError: the state does not belong to this env.
        """
        self.generator.set_state(state["generator"])
        self.seed = state["seed"]
        pieces = tuple(ConnectorState(*given) for given in state["connectors"])
        shared = self.policy.shared = self._checked_statistics(pieces)
        if state["env"] is None or state["num_envs"] != self.env.num_envs:
            fresh = self.policy.obs_chain.with_shared(self.policy.initial_state(self.env.num_envs).connectors, shared)
            self._state = PolicyState(self.policy.module.initial_state(self.env.num_envs), fresh)
            self._step = None
            if state["started"]:  # not the first episodes again
                self.seed = int(torch.randint(2**31 - 1, (), generator=self.generator))
            return
        try:
            first = self.env.reset(self.seed)
            self.env.set_state(state["env"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"The saved env state does not fit this env: {error!r}.") from error
        self._step = dataclasses.replace(_without_past(first), obs=state["step_obs"])
        self._state = PolicyState(state["module_state"], pieces)
        self._counter.open_return, self._counter.open_length = state["open_return"], state["open_length"]
        if self._recorder:
            self._recorder.set_state(state["open_episodes"])

    def _checked_statistics(self, pieces: tuple[ConnectorState, ...]) -> tuple[Tree, ...]:
        """Return the statistics of saved connectors, after comparing their shapes with those of this run's."""
        own = self.policy.obs_chain.initial_state(self.env.num_envs)
        if len(own) != len(pieces):
            raise CheckpointError(
                f"The checkpoint has {len(pieces)} observation connectors, this run has {len(own)}. Use the same ones."
            )
        for piece, expected, given in zip(self.policy.obs_chain.pieces, own, pieces, strict=True):
            shapes = [
                [np.shape(leaf) for leaf in tree_leaves(state.shared)]
                + [np.shape(leaf)[1:] for leaf in tree_leaves(state.slots)]
                for state in (expected, given)
            ]
            if shapes[0] != shapes[1]:
                raise CheckpointError(
                    f"The saved state of the observation connector {type(piece).__name__} has shapes {shapes[1]}, "
                    f"expected {shapes[0]}. Build this run with the settings it was saved with."
                )
        return tuple(piece.shared for piece in pieces)

    def close(self) -> None:
        """Close the env."""
        self.env.close()


def _describe_bad_final(space: Space[Any], final: Tree, rollout: Rollout) -> str:
    """Say where the first bad value among the true last observations `[1, K, ...]` stands."""
    for place, index in enumerate(rollout.final_index.tolist()):
        problem = find_bad_values(space, tree_map(lambda leaf, at=place: leaf[:, at : at + 1], final))
        if problem:
            time, slot = divmod(index, rollout.reward.shape[1])
            return f"{problem}, as the last one of the episode that ended at step {time} of slot {slot}"
    raise AssertionError("one of them is bad")


def _without_past(step: Step) -> Step:
    """Return what the next rollout begins with: the observation, copied before the env overwrites it, and no reward."""
    nothing = np.zeros_like(step.first)
    return Step(
        obs=tree_map(np.array, step.obs),
        reward=np.zeros_like(step.reward),
        terminated=nothing,
        truncated=nothing,
        first=nothing,
        artificial=nothing,
        final_slots=step.final_slots[:0],
        final_obs=None,
    )
