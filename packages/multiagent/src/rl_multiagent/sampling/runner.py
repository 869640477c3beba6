"""The runner of envs with many agents: steps all env slots and fills one rollout for each policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rl_core import Policy, Weights
from rl_core.connect.protocol import ConnectorState
from rl_core.errors import CheckpointError, ConfigError, EnvError
from rl_core.records import Rollout, Tree
from rl_core.rng import stream_seed
from rl_core.sampling.episodes import EpisodeStats
from rl_core.sampling.evaluate import MOST_BROKEN, broken_again_and_again, shares
from rl_core.sampling.protocol import SingleRunner
from rl_core.tree import tree_map
from rl_multiagent.env.vector import AgentsVectorEnv
from rl_multiagent.mapping import PolicyMapper
from rl_multiagent.records import AgentEpisodes, AgentRollouts, AgentsStep, AgentWeights
from rl_multiagent.sampling.bad_observations import DroppedRows
from rl_multiagent.sampling.columns import OpenDecisions, SlotColumns
from rl_multiagent.sampling.episodes import AgentEpisodeCounter
from rl_multiagent.sampling.join import join_agent_rollouts, split_agent_rollouts
from rl_multiagent.sampling.joint import JointRows, JointView
from rl_multiagent.sampling.recorder import AgentEpisode, AgentEpisodeRecorder
from rl_multiagent.sampling.slots import Arrival, PolicySlots, batches, put
from rl_multiagent.sampling.values import check_values


class MultiAgentRunner(SingleRunner):
    """Samples rollouts of `num_steps` env steps from all env slots, going on where the last ones ended."""

    def __init__(
        self,
        env: AgentsVectorEnv,
        policies: Mapping[str, Policy],
        mapper: PolicyMapper,
        *,
        num_steps: int,
        seed: int,
        joint: Collection[str] = (),
        check_values: bool = True,
        drop_bad_observations: bool = False,
        on_episode_end: Callable[[AgentEpisode], None] | None = None,
    ) -> None:
        """Take ownership of the env.

        Args:
            env: Reset at the first `sample`.
            policies: By id, in the order of the mapper's.
            mapper: Says who plays whom.
            num_steps: T, env steps per slot and rollout.
            seed: Of the env and of the actions.
            joint: Ids of policies whose rollouts tell what all agents saw, for a critic that looks at everyone.
            check_values: Look for rewards that are not finite and observations outside their space in each rollout.
            drop_bad_observations: Where a connector cannot use an agent's observation, end its segment instead of
                raising.
            on_episode_end: Called with each finished episode; None saves the work of building them.
        """
        self.env = env
        self.layout = env.layout
        self._policies = dict(policies)
        self._mapper = mapper
        self._joint = frozenset(joint)
        self._view = JointView(env.layout, env.num_envs) if joint else None
        self.num_steps = num_steps
        self.seed = seed
        self.check_values = check_values
        self.num_bad_observations = self.num_env_restarts = 0
        self._broken_steps = 0
        self._broken_in_row = np.zeros(env.num_envs, np.int64)  # episodes
        self._drops = drop_bad_observations
        self._recorder = (
            AgentEpisodeRecorder(env.num_envs, env.layout.agents, num_steps, on_episode_end) if on_episode_end else None
        )
        self.generators = {
            name: torch.Generator().manual_seed(stream_seed(seed, "actions", name)) for name in self._policies
        }
        self._counter = AgentEpisodeCounter(env.num_envs, env.layout.agents, mapper.policies)
        self.episodes: EpisodeStats = self._counter.take()  # AgentEpisodes, always
        self._owner = np.zeros((env.num_envs, env.layout.num_agents), np.int64)
        self._num_episodes = np.zeros(env.num_envs, np.int64)
        self._slots = self._make_slots({})
        self._open: dict[str, OpenDecisions | None] = {}
        self._started = False

    def change(self, policies: Mapping[str, Policy], mapper: PolicyMapper, joint: Collection[str] = ()) -> None:
        """Act with other policies, or map them otherwise, from the next episodes on.

        Policies that stay go on with their episodes; episodes under way keep who plays them.

        Args:
            policies: By id, in the order of the mapper's: those that stay, and new ones.
            mapper: Of the same layout.
            joint: As when the runner was made.

        Raises:
            ConfigError: a policy that is to go plays an agent in an episode under way, or a fixed mapping leaves one
                without agents.
        """
        before, names = self._mapper.policies, mapper.policies
        for name in names:
            if not mapper.columns(name):
                raise ConfigError(
                    f"policy_mapping_fn: no agent is mapped to {name!r}. Map one to it, or map agents by a function, "
                    "which may leave policies out; remove_policy can take it away when its episodes have ended."
                )
        gone = [place for place, name in enumerate(before) if policies.get(name) is not self._policies[name]]
        if self._started:
            for env_slot, column in np.argwhere(np.isin(self._owner, gone))[:1]:
                raise ConfigError(
                    f"Policy {before[self._owner[env_slot, column]]!r} cannot be removed or replaced yet: it plays "
                    f"agent {self.env.layout.agents[column]!r} in env slot {env_slot}, at step "
                    f"{self._counter.open_length[env_slot]} of an episode. Map its agents to others first; it can go "
                    "when such episodes have ended."
                )
        places = np.array([names.index(name) if name in names else 0 for name in before])
        self._owner = places[self._owner]
        self._policies, self._mapper = dict(policies), mapper
        self._counter.rename(names)
        for name in names:
            if name not in self.generators:
                self.generators[name] = torch.Generator().manual_seed(stream_seed(self.seed, "actions", name))
        self.generators = {name: self.generators[name] for name in names}
        if self._joint != frozenset(joint):
            self._joint = frozenset(joint)
            self._view = JointView(self.env.layout, self.env.num_envs) if joint else None
            self._started = False  # what was seen before is not known
        kept, self._slots = self._slots, self._make_slots(self._slots)
        if any(slots is not self._slots.get(name) and name in policies for name, slots in kept.items()):
            self._started = False  # policies that stay play other agents from now on: all begin new episodes

    def _make_slots(self, kept: Mapping[str, PolicySlots]) -> dict[str, PolicySlots]:
        """Make what the policies act with; those that can be evaluated as one batch act together.

        Args:
            kept: What there was: it goes on where nothing changes for its policies.

        Returns:
            By the id of the first policy that acts with them.
        """
        layout, mapper = self.env.layout, self._mapper
        columns = {
            name: [column for column in mapper.columns(name) if layout.fits(column, policy)]
            for name, policy in self._policies.items()
        }
        self._playable = np.zeros((len(columns), layout.num_agents), bool)
        groups: list[list[str]] = []
        for place, (name, own) in enumerate(columns.items()):
            self._playable[place, own] = True
            policy = self._policies[name]
            for group in groups if mapper.is_fixed else ():
                other = self._policies[group[0]]
                alike = (group[0] in self._joint) == (name in self._joint)
                if alike and len(columns[group[0]]) == len(own) and batches(other, policy):
                    group.append(name)
                    break
            else:
                groups.append([name])
        made = {}
        for group in groups:
            policies, places = {name: self._policies[name] for name in group}, [columns[name] for name in group]
            old = kept.get(group[0])
            if old is not None and old.columns == places and list(old.policies.items()) == list(policies.items()):
                made[group[0]] = old
                continue
            seed = stream_seed(self.seed, "connectors", group[0])
            made[group[0]] = PolicySlots(
                policies,
                places,
                layout,
                num_envs=self.env.num_envs,
                seed=seed,
                drop_bad_observations=self._drops,
            )
        return made

    @property
    def mapper(self) -> PolicyMapper:
        """Says who plays whom."""
        return self._mapper

    @property
    def policies(self) -> dict[str, Policy]:
        """All policies it acts with, by id."""
        return self._policies

    def sample(self) -> AgentRollouts:
        """Step all env slots T times and return what happened, for each policy.

        Raises:
            EnvError: the env failed, or gave a reward or observation it must not.
        """
        if not self._started:
            self._reset(self.seed, observe=True)
        agent_steps, broken_before = 0, self._broken_steps
        with torch.inference_mode():
            columns = {
                name: SlotColumns(slots, self.num_steps, self._open.get(name), joint=self._joint_rows(name))
                for name, slots in self._slots.items()
            }
            dropped = {name: DroppedRows(self.num_steps + 1, slots.num_slots) for name, slots in self._slots.items()}
            noise = {
                name: slots.policy.module.distribution.noise((self.num_steps, slots.num_slots), self.generators[name])
                for name, slots in self._slots.items()
            }
            for time in range(self.num_steps):
                actions = self.env.layout.empty_actions(self.env.num_envs)
                for name, slots in self._slots.items():
                    if not slots.is_acting:
                        continue
                    decision, env_action = slots.decide(tree_map(lambda leaf, time=time: leaf[time], noise[name]))
                    columns[name].decide(slots.acting, decision)
                    agent_steps += len(decision.dist_inputs)
                    self._fill(actions, slots, env_action)
                for name, arrival in self._advance(actions, observe=True).items():
                    dropped[name].add(columns[name].cursor[arrival.dropped], arrival.dropped)
                    self.num_bad_observations += arrival.num_bad
                    columns[name].close(arrival)
                    columns[name].arrive(self._slots[name], self._slots[name].acting)
        self._open = {name: columns[name].open_decisions(np.flatnonzero(s.open)) for name, s in self._slots.items()}
        by_policy = self._rollouts(columns, dropped)
        if self._recorder:
            self._recorder.finish(by_policy, self._slots)
        self.episodes = self._counter.take()
        num_envs = self.env.num_envs
        env_steps = self.num_steps * num_envs - (self._broken_steps - broken_before)
        return AgentRollouts(by_policy=by_policy, num_envs=(num_envs,), env_steps=env_steps, agent_steps=agent_steps)

    def _joint_rows(self, name: str) -> JointRows | None:
        """What all agents see, for the slots of a policy whose rollouts tell that."""
        if self._view is None or name not in self._joint:
            return None
        slots = self._slots[name]
        return JointRows(self._view, slots.env_of, slots.rows % self.env.layout.num_agents)

    def _rollouts(self, columns: Mapping[str, SlotColumns], dropped: Mapping[str, DroppedRows]) -> dict[str, Rollout]:
        """Take each policy's rollout out of the columns, and check it."""
        by_policy = {}
        for key, slots in self._slots.items():
            for name, part in slots.parts.items():
                policy = self._policies[name]
                policy.shared = policy.obs_chain.shared(slots.connectors)
                rollout = columns[key].rollout(part, policy.version)
                if rollout is not None:
                    by_policy[name] = dropped[key].without(rollout, part)
                    if self.check_values:
                        check_values(name, rollout, policy.obs_chain.output_space, slots.agents[part])
        return by_policy

    def _reset(self, seed: int | None, *, observe: bool) -> None:
        """Begin new episodes in all env slots."""
        for slots in self._slots.values():
            slots.reset()
        step = self.env.reset(seed)
        if step.restarts is not None:
            self._count_restarts(step.restarts, None)
        self._counter.begin(step)
        self._num_episodes[:] = 0
        self._assign(np.arange(self.env.num_envs))
        self._receive(step, observe=observe)
        self._open = {}
        if self._recorder:
            self._recorder.reset()
        self._started = True

    def _advance(
        self, actions: tuple[Tree, ...], *, observe: bool, counted: np.ndarray | None = None
    ) -> dict[str, Arrival]:
        """Step the envs, count, and let each policy's slots take in what followed."""
        step = self.env.step(actions)
        ended = self._counter.add(step, self._owner, counted)
        if len(ended):
            self._num_episodes[ended] += 1
            self._broken_in_row[ended] = 0
            self._assign(ended)
        if step.restarts is not None and step.restarts.any():
            self._count_restarts(step.restarts, step.broken)
        arrivals = self._receive(step, observe=observe)
        if self._recorder and observe:
            self._recorder.add(step, self._slots, arrivals)
        return arrivals

    def _count_restarts(self, restarts: np.ndarray, broken: np.ndarray | None) -> None:
        """Count envs that were made anew, and begin other episodes in place of those that broke.

        Args:
            restarts: `[E]`
            broken: `[E]`: where a step failed; None for nowhere.
        """
        self.num_env_restarts += int(restarts.sum())
        if broken is not None:
            self._broken_steps += int(np.count_nonzero(broken))
            self._broken_in_row += broken
            self._assign(np.flatnonzero(broken))

    def _receive(self, step: AgentsStep, *, observe: bool) -> dict[str, Arrival]:
        """Let each policy's slots take in a step."""
        if self._view is not None and observe:
            self._view.receive(step)
        arrivals = {}
        for name, slots in self._slots.items():
            place = self._mapper.policies.index(name)
            owned = None if self._mapper.is_fixed else self._owner.reshape(-1)[slots.rows] == place
            arrivals[name] = slots.receive(step, owned, observe=observe)
        return arrivals

    def _assign(self, env_slots: np.ndarray) -> None:
        """Decide who plays whom in episodes that begin.

        Raises:
            ConfigError: an agent is mapped to a policy for other spaces.
        """
        for env_slot in env_slots.tolist():
            owner = self._mapper.assign(env_slot, int(self._num_episodes[env_slot]))
            unfit = np.flatnonzero(~self._playable[owner, np.arange(len(owner))])
            if len(unfit):
                agent, policy = self.env.layout.agents[unfit[0]], self._mapper.policies[owner[unfit[0]]]
                raise ConfigError(
                    f"policy_mapping_fn: agent {agent!r} is mapped to {policy!r}, which was made for agents with other "
                    "spaces. Give it a policy for its own, see PolicySpec(like=...)."
                )
            self._owner[env_slot] = owner

    def _fill(self, actions: tuple[Tree, ...], slots: PolicySlots, env_action: Tree) -> None:
        """Put the actions of some slots where their agents stand."""
        flat = tree_map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), actions[slots.kind])
        put(flat, slots.kind_rows[slots.acting], env_action)

    @staticmethod
    def join(rollouts: Sequence[AgentRollouts]) -> AgentRollouts:
        """Put the slots of several runners' rollouts side by side, policy by policy."""
        return join_agent_rollouts(rollouts)

    @staticmethod
    def split(rollout: AgentRollouts, num_parts: int) -> list[AgentRollouts]:
        """Cut each policy's rollout between its slots."""
        return split_agent_rollouts(rollout, num_parts)

    def evaluate(self, *, num_episodes: int = 0, num_steps: int = 0, seed: int, explore: bool) -> AgentEpisodes:
        """Play exactly so many episodes, or env steps, with the current weights, each env slot its fixed share of them.

        The episodes being sampled are given up.
        """
        num_envs = self.env.num_envs
        share = shares(num_episodes or num_steps, num_envs)
        generator = torch.Generator().manual_seed(seed)
        self._reset(seed, observe=False)
        self._broken_in_row[:] = 0
        with torch.inference_mode():
            while share.any():
                actions = self.env.layout.empty_actions(num_envs)
                for slots in self._slots.values():
                    if slots.is_acting:
                        noise = slots.policy.module.distribution.noise((slots.num_slots,), generator)
                        self._fill(actions, slots, slots.decide(noise, explore=explore)[1])
                before = self._num_episodes.copy()
                self._advance(actions, observe=False, counted=share > 0)
                share = np.maximum(share - (self._num_episodes - before if num_episodes else 1), 0)
                if self._broken_in_row.max() >= MOST_BROKEN:
                    raise EnvError(broken_again_and_again(int(self._broken_in_row.argmax())))
        self._started = False
        return dataclasses.replace(self._counter.take(), num_steps=num_steps)

    def set_weights(self, weights: AgentWeights) -> None:
        """Act with newer weights from the next step on; policies that are not named keep theirs."""
        for name, part in weights.items():
            policy = self._policies[name]
            policy.set_weights(part)
            if name in self._slots and part.connector_state != ():  # else it has no statistics
                slots = self._slots[name]
                slots.connectors = policy.obs_chain.with_shared(slots.connectors, part.connector_state)

    def get_weights(self) -> dict[str, Weights]:
        """Return the weights it acts with and the statistics of the connectors."""
        return {
            name: Weights(
                version=policy.version,
                tensors=dict(policy.module.state_dict()),
                connector_state=policy.obs_chain.shared(slots.connectors),
            )
            for slots in self._slots.values()
            for name, policy in slots.policies.items()
        }

    def get_state(self) -> dict[str, Any]:
        """Return all that the next rollout depends on; `env` is None where the env's state cannot be captured."""
        env = self.env.get_state() if self._started else None
        return {
            "seed": self.seed,
            "started": self._started,
            "env": env,
            "num_envs": self.env.num_envs,
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "counter": tree_map(np.array, self._counter.get_state()),
            "owner": self._owner.copy(),
            "joint": None if self._view is None else self._view.get_state(),
            "num_episodes": self._num_episodes.copy(),
            "num_env_restarts": self.num_env_restarts,
            "slots": {name: slots.get_state() for name, slots in self._slots.items()},
            "open": {
                name: {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
                for name, part in self._open.items()
                if part is not None
            },
            "open_episodes": self._recorder.get_state() if self._recorder else None,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave; where the env's state is missing, new episodes begin.

        Raises:
            CheckpointError: the state does not belong to this env.
        """
        self.seed, self.num_env_restarts = state["seed"], state["num_env_restarts"]
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        for name, slots in self._slots.items():
            saved = tuple(ConnectorState(*part) for part in state["slots"][name]["connectors"])
            shared = slots.policy.obs_chain.shared(saved)
            slots.policy.obs_chain.check_shared(shared)
            for policy in slots.policies.values():
                policy.shared = shared
        self._started, self._open = False, {}
        if state["env"] is None or state["num_envs"] != self.env.num_envs:
            if state["started"]:  # not the first episodes again
                self.seed = stream_seed(self.seed, "again")
            return
        try:
            self._reset(self.seed, observe=False)
            self.env.set_state(state["env"])
            self.num_env_restarts = state["num_env_restarts"]  # without failures of this reset
            for name, slots in self._slots.items():
                slots.set_state(state["slots"][name])
            self._open = {name: OpenDecisions(**part) for name, part in state["open"].items()}
            if self._view is not None:
                self._view.set_state(state["joint"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise CheckpointError(f"The saved state of the env runner does not fit this env: {error!r}.") from error
        self._counter.set_state(state["counter"])
        self._owner, self._num_episodes = np.array(state["owner"]), np.array(state["num_episodes"])
        if self._recorder:
            self._recorder.set_state(state["open_episodes"])

    def close(self) -> None:
        """Close the envs."""
        self.env.close()
