"""The env runner: steps a vector env with a policy and fills rollouts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Space

from rl_core.connect.chain import ChainState, as_tensor
from rl_core.connect.protocol import NO_SLOTS, ConnectorState
from rl_core.env.check import find_bad_values
from rl_core.env.protocol import VectorEnv
from rl_core.errors import BadObservationError, CheckpointError, EnvError
from rl_core.policy import Policy, PolicyState, restart_state
from rl_core.records import Decision, Rollout, Step, Tree, Weights
from rl_core.sampling.bad_observations import ObservationGuard
from rl_core.sampling.columns import RolloutColumns, rows_of
from rl_core.sampling.episodes import Episode, EpisodeCounter, EpisodeStats
from rl_core.sampling.evaluate import evaluate
from rl_core.sampling.join import join_rollouts, split_rollout
from rl_core.sampling.protocol import SingleRunner
from rl_core.sampling.recorder import EpisodeRecorder
from rl_core.tree import tree_map


class EnvRunner(SingleRunner):
    """Samples rollouts of `num_steps` steps from all slots of a vector env, going on where the last one ended."""

    def __init__(
        self,
        env: VectorEnv,
        policy: Policy,
        *,
        num_steps: int,
        seed: int,
        check_values: bool = True,
        drop_bad_observations: bool = False,
        always_rebuild: bool = False,
        on_episode_end: Callable[[Episode], None] | None = None,
    ) -> None:
        """Take ownership of the env.

        Args:
            env: Reset at the first `sample`.
            policy: Acts; its weights are set by `set_weights`.
            num_steps: T, steps per slot and rollout.
            seed: Of the env and of the actions.
            check_values: Look for rewards that are not finite and observations outside their space in each rollout.
            drop_bad_observations: Where a connector cannot use an observation, end that slot's segment instead of
                raising.
            always_rebuild: Leave every connector to the learner that it can run again, so that learner connectors
                see observations as they were before; otherwise only where that makes rollouts smaller.
            on_episode_end: Called with each finished episode; None saves the work of building them.
        """
        self.env = env
        self.policy = policy
        self.num_steps = num_steps
        self.check_values = check_values
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.episodes = EpisodeStats(returns=np.zeros(0), lengths=np.zeros(0, np.int64))
        self.num_bad_observations = 0
        """Observations so far that a connector could not use."""
        self.num_env_restarts = 0
        """Envs so far that failed and were made anew."""
        self._counter = EpisodeCounter(env.num_envs)
        self._recorder = EpisodeRecorder(env.num_envs, on_episode_end) if on_episode_end else None
        self._split = policy.obs_chain.rebuilt_from(always=always_rebuild)
        self._guard = ObservationGuard(env.num_envs) if drop_bad_observations else None
        self._step: Step | None = None
        self._kept: Step | None = None
        self._state = policy.initial_state(env.num_envs, seed=seed)

    def sample(self) -> Rollout:
        """Step all slots T times and return what happened.

        Raises:
            EnvError: the env failed, or gave a reward or observation it must not.
        """
        step = self._step or self._reset()
        num_steps, policy = self.num_steps, self.policy
        module, distribution = policy.module, policy.module.distribution
        columns = RolloutColumns(self._kept or step, num_steps)
        noise = rows_of(distribution.noise((num_steps, self.env.num_envs), self.generator), num_steps)
        state, connectors, memory = self._state.module, self._state.connectors, self._state.action_memory
        if recurrent := state != ():
            columns.states.append(state)
        kept, rebuilds, history = self._kept or step, self._kept is not None, None
        if rebuilds:
            first = np.empty((num_steps + 1, self.env.num_envs), bool)
            first[0] = step.first
            history = policy.obs_chain.history(connectors, self._split, first)
        with torch.inference_mode():
            own = rows_of(columns.inputs, num_steps)
            for time in range(num_steps):
                inputs = tree_map(as_tensor, step.obs) if rebuilds else own[time]
                dist_inputs, state = module.forward_policy(inputs, state)
                action = distribution.sample(dist_inputs, noise[time])
                memory, env_action = policy.action_chain(memory, action, step.first)
                raw = self.env.step(env_action)
                kept, step, reward = raw, raw, raw.reward
                if connectors:
                    before = PolicyState(state, connectors, ())
                    connectors, kept, step, reward = self._connect(columns, time, before, raw)
                elif len(raw.final_slots):
                    columns.add_final(time, raw.final_slots, raw.final_obs, state)
                decision = Decision(action=action, dist_inputs=dist_inputs, state=state)
                columns.add(time, decision, raw, kept.obs, reward)
                if raw.broken is not None:
                    columns.break_off(time, raw.broken)
                if history is not None:
                    history.first[time + 1] = step.first
                if recurrent:
                    if step.first.any():
                        state = restart_state(module, state, step.first)
                    columns.states.append(state)
            rollout = columns.rollout(policy.version, history)
        self._step = _without_past(step)
        self._kept = _without_past(kept) if rebuilds else None
        self._state = PolicyState(state, connectors, memory)
        policy.shared = tuple(part.shared for part in connectors)
        self._finish(columns, rollout)
        return rollout

    def _reset(self) -> Step:
        """Start new episodes in all slots."""
        num_envs = self.env.num_envs
        self._counter = EpisodeCounter(num_envs)
        if self._recorder:
            self._recorder.set_state(None)
        raw = self.env.reset(self.seed)
        connectors, kept, step = self._run_connectors(self._state.connectors, raw)
        self.policy.obs_chain.check_output(step)
        self._kept = kept if self._split < len(connectors) else None
        self._state = PolicyState(self.policy.module.initial_state(num_envs), connectors, self._state.action_memory)
        return step

    def _run_connectors(self, connectors: ChainState, raw: Step) -> tuple[ChainState, Step, Step]:
        """Pass a step of the env through the connectors; return also what the learner's part of them got."""
        chain, split = self.policy.obs_chain, self._split

        def connect(step: Step) -> tuple[ChainState, Step, Step]:
            after, kept = chain(connectors, step, observe=True, stop=split)
            if split == len(after):
                return after, kept, kept
            after, step = chain(after, kept, observe=True, start=split)
            return after, kept, step

        return connect(raw) if self._guard is None else self._guard(connect, raw)

    def _connect(
        self, columns: RolloutColumns, time: int, before: PolicyState, raw: Step
    ) -> tuple[ChainState, Step, Step, np.ndarray]:
        """Pass the step at `time` through the connectors, with the observations that ended episodes.

        Args:
            columns: Of the rollout.
            time: Row of the step.
            before: State of the connectors before it, of the module after it.
            raw: As the env gave it.

        Returns:
            The connectors' state, what is kept of the step, what the next decision is made on, and the rewards `[B]`.
        """
        guard = self._guard
        gap = None if guard is None else guard.bad
        after, kept, step = self._run_connectors(before.connectors, raw)
        reward = step.reward
        if len(raw.final_slots):
            final, final_reward, unusable = self._look_at_final(before.connectors, raw)
            columns.add_final(time, raw.final_slots, final, before.module)
            reward = np.array(reward)
            reward[raw.final_slots] = final_reward
            if unusable.any():
                columns.drop(time, unusable)
        if guard is not None and gap is not None and (gap | guard.bad).any():
            columns.drop(time, gap | guard.bad)
        return after, kept, step, reward

    def _look_at_final(self, connectors: ChainState, raw: Step) -> tuple[Tree, np.ndarray, np.ndarray]:
        """Pass the true last observations through the connectors without disturbing their state.

        Returns:
            What is kept of them `[K, ...]`, the rewards of the steps that led there `[K]`, and the slots `[B]` whose
            last observation could not be used.
        """
        slots, guard, chain, split = raw.final_slots, self._guard, self.policy.obs_chain, self._split
        unusable = np.zeros_like(raw.first)

        def put(current: np.ndarray, final: np.ndarray) -> np.ndarray:
            result = np.array(current)
            result[slots] = final
            return result

        looked_at = Step(
            obs=tree_map(put, raw.obs, raw.final_obs),
            reward=raw.reward,
            terminated=raw.terminated,
            truncated=raw.truncated,
            first=np.zeros_like(raw.first),
            artificial=raw.artificial,
            final_slots=NO_SLOTS,
            final_obs=None,
            action=raw.action,
            infos=raw.infos,
        )
        while True:
            try:
                after, kept = chain(connectors, looked_at, stop=split)
                step = kept if split == len(after) else chain(after, kept, start=split)[1]
            except BadObservationError as error:
                bad = np.array(error.slots)
                if guard is None or unusable[bad].all():
                    raise
                unusable[bad] = True
                looked_at = dataclasses.replace(looked_at, obs=guard.stand_in(looked_at.obs, np.flatnonzero(unusable)))
                continue
            if guard is not None:
                final = np.zeros_like(unusable)
                final[slots] = True
                unusable &= final
                guard.num_bad += int(np.count_nonzero(unusable))
            return tree_map(lambda leaf: leaf[slots], kept.obs), step.reward[slots], unusable

    def _finish(self, columns: RolloutColumns, rollout: Rollout) -> None:
        """Count finished episodes and check the values of a whole rollout at once."""
        done = columns.terminated | columns.truncated
        self.episodes = self._counter.count(columns.raw_reward, done, columns.artificial, columns.broken)
        self.num_env_restarts = self.env.num_restarts
        if self._guard is not None:
            self.num_bad_observations = self._guard.num_bad
        if self.check_values:
            if not np.isfinite(columns.raw_reward).all():
                time, slot = np.argwhere(~np.isfinite(columns.raw_reward))[0]
                raise EnvError(
                    f"The env gave the reward {columns.raw_reward[time, slot]} at step {time} of slot {slot}; rewards "
                    "must be finite numbers. Check the env's reward computation (rl_core.testing.check_env helps)."
                )
            space = self.policy.obs_chain.spaces[self._split]
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
            self._recorder.add(rollout, columns.raw_reward, done, columns.broken)

    @property
    def policies(self) -> dict[str, Policy]:
        """The one policy it acts with."""
        return {"default": self.policy}

    @staticmethod
    def join(rollouts: Sequence[Rollout]) -> Rollout:
        """Put the slots of several runners' rollouts side by side."""
        return join_rollouts(rollouts)

    @staticmethod
    def split(rollout: Rollout, num_parts: int) -> list[Rollout]:
        """Cut a rollout between its slots."""
        return split_rollout(rollout, num_parts)

    def evaluate(self, *, num_episodes: int = 0, num_steps: int = 0, seed: int, explore: bool) -> EpisodeStats:
        """Play exactly so many episodes, or env steps; the episodes being sampled are given up."""
        self._step = None
        guard = None if self._guard is None else ObservationGuard(self.env.num_envs)
        return evaluate(
            self.env,
            self.policy,
            num_episodes=num_episodes,
            num_steps=num_steps,
            seed=seed,
            explore=explore,
            guard=guard,
        )

    def set_weights(self, weights: Weights) -> None:
        """Act with newer weights from the next step on."""
        self.policy.set_weights(weights)
        if weights.connector_state != ():
            connectors = self.policy.obs_chain.with_shared(self._state.connectors, weights.connector_state)
            self._state = dataclasses.replace(self._state, connectors=connectors)

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
            "step_first": self._step.first if self._step else None,
            "kept_obs": tree_map(np.asarray, self._kept.obs) if self._step and self._kept else None,
            "module_state": self._state.module,
            "action_memory": self._state.action_memory,
            "connectors": tuple((part.shared, part.slots) for part in self._state.connectors),
            "open_return": self._counter.open_return,
            "open_length": self._counter.open_length,
            "open_episodes": self._recorder.get_state() if self._recorder else None,
            "num_envs": self.env.num_envs,
            "num_env_restarts": self.env.num_restarts,
            "guard": self._guard.get_state() if self._guard and self._step else None,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave; where the env's state is missing, new episodes begin.

        Raises:
            CheckpointError: the state does not belong to this env.
        """
        self.generator.set_state(state["generator"])
        self.seed = state["seed"]
        self.env.num_restarts = self.num_env_restarts = state["num_env_restarts"]
        pieces = tuple(ConnectorState(*given) for given in state["connectors"])
        self._check_action_memory(state["action_memory"])
        self.policy.shared = self._checked_statistics(pieces)
        if self._guard:
            self._guard.restart()
        if state["env"] is None or state["num_envs"] != self.env.num_envs:
            self._state = self.policy.initial_state(self.env.num_envs, seed=self.seed)
            self._step = self._kept = None
            if state["started"]:  # not the first episodes again
                self.seed = int(torch.randint(2**31 - 1, (), generator=self.generator))
            return
        try:
            first = self.env.reset(self.seed)
            self.env.set_state(state["env"])
            self.env.num_restarts = state["num_env_restarts"]  # without failures of these resets
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"The saved env state does not fit this env: {error!r}.") from error
        start = dataclasses.replace(_without_past(first), first=state["step_first"])
        self._step = dataclasses.replace(start, obs=state["step_obs"])
        kept = state["kept_obs"]
        self._kept = None if kept is None else dataclasses.replace(start, obs=kept)
        self._state = PolicyState(state["module_state"], pieces, state["action_memory"])
        self._counter.open_return, self._counter.open_length = state["open_return"], state["open_length"]
        if self._recorder:
            self._recorder.set_state(state["open_episodes"])
        if self._guard and state["guard"] is not None:
            self._guard.set_state(state["guard"])

    def _checked_statistics(self, pieces: tuple[ConnectorState, ...]) -> tuple[Tree, ...]:
        """Return the statistics of saved connectors, after comparing their shapes with those of this run's."""
        shared = tuple(piece.shared for piece in pieces)
        self.policy.obs_chain.check_shared(shared)
        own = self.policy.obs_chain.initial_state(self.env.num_envs)
        for piece, expected, given in zip(self.policy.obs_chain.pieces, own, pieces, strict=True):
            _check_memory(f"observation connector {type(piece).__name__}", expected.slots, given.slots)
        return shared

    def _check_action_memory(self, memory: tuple[Tree, ...]) -> None:
        """Compare the saved memory of the action connectors with that of this run's."""
        chain = self.policy.action_chain
        if len(memory) != len(chain.pieces):
            raise CheckpointError(
                f"The saved state has the memory of {len(memory)} action connectors, this run has {len(chain.pieces)}. "
                "Use the same ones."
            )
        own = chain.initial_state(self.env.num_envs, seed=self.seed)
        for piece, expected, given in zip(chain.pieces, own, memory, strict=True):
            _check_memory(f"action connector {type(piece).__name__}", expected, given)

    def close(self) -> None:
        """Close the env."""
        self.env.close()


def _check_memory(who: str, expected: Tree, given: Tree) -> None:
    """Compare the saved memory of a connector with its own `[B, ...]`, whatever the number of slots is."""
    shapes = [tree_map(lambda leaf: np.shape(leaf)[1:], memory) for memory in (expected, given)]
    if shapes[0] != shapes[1]:
        raise CheckpointError(
            f"The saved memory of the {who} has shapes {shapes[1]}, expected {shapes[0]}. Build this run with the "
            "settings it was saved with."
        )


def _describe_bad_final(space: Space[Any], final: Tree, rollout: Rollout) -> str:
    """Say where the first bad value among the true last observations `[1, K, ...]` stands."""
    for place, index in enumerate(rollout.final_index.tolist()):
        problem = find_bad_values(space, tree_map(lambda leaf, at=place: leaf[:, at : at + 1], final))
        if problem:
            time, slot = divmod(index, rollout.reward.shape[1])
            return f"{problem}, as the last one of the episode that ended at step {time} of slot {slot}"
    raise AssertionError("one of them is bad")


def _without_past(step: Step) -> Step:
    """Return what the next rollout begins with: the observation, copied before the env overwrites it; no reward."""
    nothing = np.zeros_like(step.first)
    return Step(
        obs=tree_map(np.array, step.obs),
        reward=np.zeros_like(step.reward),
        terminated=nothing,
        truncated=nothing,
        first=step.first,
        artificial=nothing,
        final_slots=step.final_slots[:0],
        final_obs=None,
    )
