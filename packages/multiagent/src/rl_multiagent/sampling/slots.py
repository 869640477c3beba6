"""Policies and the agent slots they may play: what they see, remember and have decided."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rl_core import Decision, Policy
from rl_core.connect.chain import ChainState
from rl_core.connect.protocol import NO_SLOTS, ConnectorState
from rl_core.errors import BadObservationError
from rl_core.module.stack import PolicyStack, can_stack
from rl_core.policy import restart_state
from rl_core.records import Step, Tree
from rl_core.sampling.columns import allocate
from rl_core.tree import tree_map
from rl_multiagent.env.layout import AgentLayout, zeros
from rl_multiagent.records import AgentsStep
from rl_multiagent.sampling.bad_observations import connect_usable

Index = Any
"""Which agent slots: `[N]` int64, or `slice(None)` for all of them."""
ALL = slice(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What one step of the envs means for the agent slots of a policy."""

    went_on: np.ndarray
    """`[M]`: slots whose last decision led to another observation."""
    reward: np.ndarray
    """`[M]`: what came in between, after reward connectors."""
    ended: np.ndarray
    """`[K]`: slots whose last decision was the last of the agent's part in the episode."""
    ended_reward: np.ndarray
    """`[K]`"""
    terminated: np.ndarray
    """`[K]`"""
    truncated: np.ndarray
    """`[K]`"""
    final_obs: Tree
    """`[K, ...]`: module inputs for the true last observations; None when K is 0."""
    final_state: Tree
    """`[K, ...]`: recurrent states before they are looked at; `()` for a feed-forward module."""
    dropped: np.ndarray
    """`[D]`: those of the slots above whose last decision must not train, because an observation before or after it
    could not be used."""
    num_bad: int
    """Observations of this step that could not be used."""
    broken: np.ndarray
    """Slots whose last decision will never have an outcome, because the env failed."""


class PolicySlots:
    """A policy, or several that are evaluated as one batch, and the B agent slots that they may play.

    Slots are in order of policy, agent and env slot, equally many for each policy.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        columns: Sequence[Sequence[int]],
        layout: AgentLayout,
        *,
        num_envs: int,
        seed: int,
        drop_bad_observations: bool = False,
    ) -> None:
        """Begin with no episode under way.

        Args:
            policies: By id; for several of them `batches` holds.
            columns: For each policy those of the agents that it may play, all of one kind.
            layout: Of the agents.
            num_envs: E.
            seed: Of action connectors that draw random numbers.
            drop_bad_observations: Where a connector cannot use an agent's observation, end its segment instead of
                raising.
        """
        self.policies = dict(policies)
        self.columns = [list(part) for part in columns]
        self.policy = next(iter(policies.values()))
        """Whose connectors and distribution serve all of them."""
        self._stack = PolicyStack([policy.module for policy in policies.values()]) if len(policies) > 1 else None
        self.kind = layout.kind_of(columns[0][0])
        kind = layout.kinds[self.kind]
        agents = np.array([column for part in columns for column in part])
        self.env_of = np.tile(np.arange(num_envs), len(agents))  # [B]
        agent_of = np.repeat(agents, num_envs)
        self.rows = self.env_of * layout.num_agents + agent_of
        """`[B]`: positions `e * A + a`."""
        self.kind_rows = self.env_of * kind.num_agents + agent_of - kind.start
        """`[B]`: positions `e * A_k + a` in the arrays of the kind."""
        self.num_slots = len(self.rows)
        self.agents = [layout.agents[column] for column in agent_of]
        """B agents: whom each slot plays."""
        size = self.num_slots // len(self.policies)
        self.parts = {name: slice(place * size, (place + 1) * size) for place, name in enumerate(self.policies)}
        """Id -> slots of each policy."""
        self.acting: Index = NO_SLOTS
        """Slots whose action is awaited."""
        self.begins = np.zeros(0, bool)
        """`[N]`: for those that act: it is the agent's first action of the episode."""
        self._space = kind.observation_space
        self._seed = seed
        self._drops = drop_bad_observations
        self.reset()

    def reset(self) -> None:
        """Forget everything about the episodes under way; statistics stay."""
        start = self.policy.initial_state(self.num_slots, seed=self._seed)
        self.connectors: ChainState = start.connectors
        self.state: Tree = start.module
        """`[B, ...]`: recurrent state before the next decision."""
        self.memory: Tree = start.action_memory
        self.open = np.zeros(self.num_slots, bool)
        """`[B]`: a decision was made whose outcome is not known yet."""
        self.pending = np.zeros(self.num_slots)
        """`[B]`: rewards since that decision."""
        self.in_episode = np.zeros(self.num_slots, bool)
        self.last_action: Tree = None
        self.acting = NO_SLOTS
        self.bad = np.zeros(self.num_slots, bool)
        """`[B]`: the newest observation could not be used."""
        self.raw: Tree = zeros(self._space, (self.num_slots,))
        """`[B, ...]`: the newest observation of each slot that could be used, as the env gave it."""
        nothing = np.zeros(self.num_slots, np.float32), np.ones(self.num_slots, bool)
        _, step = self.policy.obs_chain(start.connectors, self._step(self.raw, *nothing, ALL))
        self.policy.obs_chain.check_output(step)
        self.inputs: Tree = tree_map(lambda leaf: np.zeros(leaf.shape[1:], leaf.dtype), allocate(step.obs, 1))
        """`[B, ...]`: the newest module input of each slot."""

    @property
    def is_acting(self) -> bool:
        """Whether the action of any slot is awaited."""
        return self.acting is ALL or len(self.acting) > 0

    def receive(self, step: AgentsStep, owned: np.ndarray | None, *, observe: bool) -> Arrival:
        """Take in what the envs said.

        Args:
            step: Of all env slots.
            owned: `[B]`: slots that this policy plays from now on; None for all.
            observe: Let the statistics of connectors grow.
        """
        rows = self.rows
        broken = NO_SLOTS
        if step.broken is not None and step.broken.any():
            broken = np.flatnonzero(step.broken[self.env_of] & self.open)
            self.open[broken] = False
        self.pending += step.reward.reshape(-1)[rows] * self.open
        terminated, truncated = step.terminated.reshape(-1)[rows], step.truncated.reshape(-1)[rows]
        done = terminated | truncated
        ended = np.flatnonzero(done & self.open)
        ended_reward, final_obs, final_bad = self._look_at_final(
            step, ended, (terminated[ended], truncated[ended]), observe=observe
        )
        final_state = tree_map(lambda leaf: leaf[ended], self.state)
        self.open[ended] = False
        self.in_episode &= ~(done | step.first[self.env_of])

        acts = step.acts.reshape(-1)[rows]
        acting = np.flatnonzero(acts if owned is None else acts & owned)
        went_on = self.open[acting]
        before = self.bad.copy()
        reward, bad = self._connect(step, acting, went_on, observe=observe)
        dropped = NO_SLOTS
        if self._drops:
            dropped = np.concatenate([ended[before[ended] | final_bad], acting[went_on & (before[acting] | bad)]])
        return Arrival(
            went_on=acting[went_on],
            reward=reward[went_on],
            ended=ended,
            ended_reward=ended_reward,
            terminated=terminated[ended],
            truncated=truncated[ended],
            final_obs=final_obs,
            final_state=final_state,
            dropped=dropped,
            num_bad=int(np.count_nonzero(final_bad) + np.count_nonzero(bad)),
            broken=broken,
        )

    def _connect(
        self, step: AgentsStep, acting: np.ndarray, went_on: np.ndarray, *, observe: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn the observations of those that act into module inputs.

        Returns:
            Their rewards, and whose observation could not be used, `[N]` both.
        """
        self.begins = ~self.in_episode[acting] | self.bad[acting]  # after a gap all memory starts anew
        self.acting = index = ALL if len(acting) == self.num_slots else acting
        kind_rows = self.kind_rows[index]
        obs = tree_map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[kind_rows], step.obs[self.kind])
        reward = np.where(went_on, self.pending[index], 0.0).astype(np.float32)
        if not len(acting):
            return reward, np.zeros(0, bool)
        before = _take_chain(self.connectors, index)

        def connect(obs: Tree) -> tuple[ChainState, Step]:
            return self.policy.obs_chain(before, self._step(obs, reward, self.begins, index), observe=observe)

        (after, given), obs, bad = self._run(connect, obs, index, acting)
        put(self.raw, index, obs)
        self.bad[index] = bad
        self.connectors = _put_chain(self.connectors, index, after)
        put(self.inputs, index, given.obs)
        if self.state != () and self.begins.any():
            state = tree_map(lambda leaf: leaf[index], self.state)
            self.state = _put_tensors(self.state, index, restart_state(self.policy.module, state, self.begins))
        return given.reward, bad

    def _run(
        self, connect: Callable[[Tree], tuple[ChainState, Step]], obs: Tree, index: Index, slots: np.ndarray
    ) -> tuple[tuple[ChainState, Step], Tree, np.ndarray]:
        """Run connectors on observations of some slots; what they refuse is replaced if such are to be dropped.

        Args:
            connect: Runs them.
            obs: `[N, ...]`
            index: Which slots.
            slots: `[N]`: the same, one by one.

        Returns:
            What `connect` gave, the observations it gave that for, and which were replaced, `[N]`.

        Raises:
            BadObservationError: an observation cannot be used; the message names agent and env slot.
        """
        try:
            if not self._drops:
                return connect(obs), obs, np.zeros(len(slots), bool)
            return connect_usable(connect, obs, tree_map(lambda leaf: leaf[index], self.raw), len(slots))
        except BadObservationError as error:
            slot = slots[error.slots[0]]
            where = f"agent {self.agents[slot]!r} in env slot {self.env_of[slot]}: {error.problem}"
            raise BadObservationError(slots[list(error.slots)].tolist(), where) from error

    def _look_at_final(
        self, step: AgentsStep, ended: np.ndarray, how: tuple[np.ndarray, np.ndarray], *, observe: bool
    ) -> tuple[np.ndarray, Tree, np.ndarray]:
        """Pass last observations through the connectors without disturbing the memory of the slots.

        Where an agent left without one, its newest observation stands for it.

        Args:
            step: Of all env slots.
            ended: `[K]`: whose part ended.
            how: `[K]` each: whether it terminated, and whether it was cut.
            observe: Let the statistics of connectors grow.

        Returns:
            The rewards `[K]` of the decisions that led there, module inputs `[K, ...]`, and which observations could
            not be used `[K]`.
        """
        if not len(ended):
            return np.zeros(0, np.float32), None, np.zeros(0, bool)
        seen = step.final_observed.reshape(-1)[self.rows[ended]]
        kind_rows = self.kind_rows[ended]

        def pick(final: np.ndarray, newest: np.ndarray) -> np.ndarray:
            result: np.ndarray = newest[ended]
            result[seen] = final.reshape(-1, *final.shape[2:])[kind_rows[seen]]
            return result

        before, reward = _take_chain(self.connectors, ended), self.pending[ended].astype(np.float32)

        chain = self.policy.obs_chain

        def connect(obs: Tree) -> tuple[ChainState, Step]:
            return chain(before, self._step(obs, reward, self.bad[ended], ended, how), observe=observe)

        obs = tree_map(pick, step.final_obs[self.kind], self.raw)
        (after, given), _, bad = self._run(connect, obs, ended, ended)
        if observe:
            self.connectors = chain.with_shared(self.connectors, chain.shared(after))
        return given.reward, given.obs, bad

    def _step(
        self,
        obs: Tree,
        reward: np.ndarray,
        first: np.ndarray,
        index: Index,
        how: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Step:
        """Make what connectors get for some slots; `how` tells where their part terminated or was cut."""
        nothing = np.zeros(len(first), bool)
        terminated, truncated = how or (nothing, nothing)
        return Step(
            obs=obs,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            first=first,
            artificial=nothing,
            final_slots=NO_SLOTS,
            final_obs=None,
            action=None if self.last_action is None else tree_map(lambda leaf: leaf[index], self.last_action),
        )

    def decide(self, noise: Tree, *, explore: bool = True) -> tuple[Decision, Tree]:
        """Choose the actions of the slots that act.

        Args:
            noise: `[B, ...]` of the distribution; not used without `explore`.
            explore: Draw actions; otherwise take the mode, unless the module `always_explores`.

        Returns:
            The decision for those slots `[N, ...]`, its `state` that after it; and the env's actions `[N, ...]`.
        """
        index = self.acting
        dist_inputs, state = self._forward(index)
        module = self.policy.module
        distribution = module.distribution
        if explore or module.always_explores:
            action = distribution.sample(dist_inputs, tree_map(lambda leaf: leaf[index], noise))
        else:
            action = distribution.mode(dist_inputs)
        before = tuple(tree_map(lambda leaf: leaf[index], part) for part in self.memory)
        after, env_action = self.policy.action_chain(before, action, self.begins)
        for memory, part in zip(self.memory, after, strict=True):
            put(memory, index, part)
        if self.last_action is None:
            self.last_action = tree_map(
                lambda leaf: np.zeros((self.num_slots, *leaf.shape[1:]), leaf.dtype), env_action
            )
        put(self.last_action, index, env_action)
        self.open[index] = True
        self.in_episode[index] = True
        self.pending[index] = 0.0
        return Decision(action=action, dist_inputs=dist_inputs, state=state), env_action

    def _forward(self, index: Index) -> tuple[torch.Tensor, Tree]:
        """Evaluate the policies for some slots: distribution inputs `[N, P]` and the next recurrent states."""
        if self._stack is not None:
            inputs = torch.from_numpy(self.inputs)
            dist_inputs = self._stack(inputs.view(len(self.policies), -1, inputs.shape[-1])).flatten(0, 1)
            return dist_inputs[index], ()
        inputs = tree_map(lambda leaf: torch.from_numpy(leaf)[index], self.inputs)
        dist_inputs, state = self.policy.module.forward_policy(inputs, tree_map(lambda leaf: leaf[index], self.state))
        self.state = _put_tensors(self.state, index, state)
        return dist_inputs, state

    def get_state(self) -> dict[str, Any]:
        """Return all that the next decision depends on besides the policy."""
        return {
            "connectors": tuple((_copy(part.shared), _copy(part.slots)) for part in self.connectors),
            **{name: _copy(getattr(self, name)) for name in _STATE},
            "acting": np.arange(self.num_slots)[self.acting],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave."""
        self.connectors = tuple(ConnectorState(*part) for part in state["connectors"])
        for name in _STATE:
            setattr(self, name, _copy(state[name]))
        acting = np.array(state["acting"])
        self.acting = ALL if len(acting) == self.num_slots else acting


_STATE = ("state", "memory", "open", "pending", "in_episode", "begins", "last_action", "inputs", "raw", "bad")
"""Attributes that are saved as they are."""


def batches(first: Policy, other: Policy) -> bool:
    """Whether two policies can be evaluated as one batch: equal structure and connectors, and no statistics."""
    return (
        can_stack([first.module, other.module])
        and first.obs_chain.pieces == other.obs_chain.pieces
        and first.action_chain.pieces == other.action_chain.pieces
        and all(part == () for part in first.shared)
    )


def _take_chain(connectors: ChainState, index: Index) -> ChainState:
    """Pick some slots of the connectors' memory."""
    if index is ALL:
        return connectors
    return tuple(ConnectorState(part.shared, tree_map(lambda leaf: leaf[index], part.slots)) for part in connectors)


def _put_chain(connectors: ChainState, index: Index, after: ChainState) -> ChainState:
    """Return the connectors' state with some slots' memory, and the statistics, replaced."""
    if index is ALL:
        return after

    def replaced(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        result = old.copy()
        result[index] = new
        return result

    return tuple(
        ConnectorState(part.shared, tree_map(replaced, before.slots, part.slots))
        for before, part in zip(connectors, after, strict=True)
    )


def _copy(tree: Tree) -> Tree:
    """Copy the arrays and tensors of a tree, so that who saved or loads it has its own."""
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else copy.copy(leaf), tree)


def put(tree: Tree, index: Any, value: Tree) -> None:
    """Write `value` at an index of each leaf, in place."""
    if isinstance(tree, dict):
        for key, part in tree.items():
            put(part, index, value[key])
    elif isinstance(tree, tuple):
        for part, inner in zip(tree, value, strict=True):
            put(part, index, inner)
    else:
        tree[index] = value


def _put_tensors(tree: Tree, index: Index, value: Tree) -> Tree:
    """Return the tensors with some rows replaced."""
    if tree == ():
        return ()
    if index is ALL:
        return value
    where = torch.from_numpy(index)
    return tree_map(lambda old, new: old.index_copy(0, where, new), tree, value)
