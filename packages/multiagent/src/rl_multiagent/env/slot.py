"""One env slot: steps a `MultiAgentEnv` and writes what its dicts say into the slot's row of the arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_core.env import snapshot
from rl_core.env.restart import RESTARTS
from rl_core.env.spaces import describe
from rl_core.errors import CheckpointError, EnvError, RLError
from rl_core.records import Tree
from rl_core.tree import tree_leaves, tree_map
from rl_multiagent.env.agent_env import EVERYONE, AgentID, MultiAgentEnv
from rl_multiagent.env.arrays import AgentArrays
from rl_multiagent.env.layout import AgentLayout

MASK = "action_mask"
"""Key of a Dict observation that holds which actions are legal: not zero where one is."""
_Leaf = tuple[tuple[Any, ...], np.ndarray, tuple[int, ...]]
"""Keys that lead to a leaf of an observation, its array `[A_k, ...]` in this slot, and the shape for one agent."""


class EnvSlot:
    """Row `row` of the arrays, kept by one env; a new episode begins by itself when one ends."""

    def __init__(self, env: MultiAgentEnv, layout: AgentLayout, arrays: AgentArrays, *, row: int, name: str) -> None:
        """Take ownership of the env.

        Args:
            env: Reset first with `reset`.
            layout: Of its agents.
            arrays: Written in place.
            row: e, which env slot it is.
            name: What messages call the env.
        """
        self.env = env
        self._layout = layout
        self._index, self._agents = layout.index, layout.agents
        self._row = row
        self._name = name
        self._acts, self._reward, self._first = arrays.acts[row], arrays.reward[row], arrays.first[row : row + 1]
        self._terminated, self._truncated = arrays.terminated[row], arrays.truncated[row]
        self._restarts, self._broken = arrays.restarts[row : row + 1], arrays.broken[row : row + 1]
        self._final_observed = arrays.final_observed[row]
        self._current = _places(layout, arrays.obs, row)
        self._final = _places(layout, arrays.final_obs, row)
        self._kinds = [place for place, kind in enumerate(layout.kinds) for _ in range(kind.num_agents)]
        self._discrete = [isinstance(kind.action_space, spaces.Discrete) for kind in layout.kinds]
        self._masks, self._final_masks = _masks(layout, arrays.obs, row), _masks(layout, arrays.final_obs, row)
        self._acting: list[int] = []
        """Columns of the agents whose actions are awaited."""
        self._present: set[int] = set()
        """Columns of the agents that took part in this episode and have not left."""
        self._left: dict[int, int] = {}
        """Column -> step at which the agent left this episode."""
        self._leaving: set[int] = set()
        """Columns of the agents that left in the last step: those whose flags are set in the arrays."""
        self._time = 0

    def reset(self, seed: int | None) -> None:
        """Begin an episode, giving up the one that is open.

        Raises:
            EnvError: the env failed, or said something that makes no sense.
        """
        self._clear()
        self._begin(seed)

    def step(self, actions: tuple[Tree, ...]) -> None:
        """Act.

        Args:
            actions: For each kind `[E, A_k, ...]`; read where an action is awaited.

        Raises:
            EnvError: the env failed, or said something that makes no sense; the message names slot, step and agent.
        """
        chosen = self._choose(actions)
        self._clear()
        self._time += 1
        try:
            obs, rewards, terminateds, truncateds, infos = self.env.step(chosen)
        except RLError as error:
            raise EnvError(f"{self._where()}: {error}") from error
        except Exception as error:
            raise EnvError(f"{self._where()}: step failed with {type(error).__name__}: {error}") from error
        if RESTARTS in infos:
            self._broken[0] = True
            self._take_first(obs, infos)
            return
        columns = self._columns(obs)
        if self._left:
            self._refuse_left(columns)
        self._present.update(columns)  # also who appears in the very step that ends the episode
        self._write_rewards(rewards)
        if any(terminateds.values()) or any(truncateds.values()):
            over = self._write_ends(terminateds, truncateds)
            self._write_last(obs, columns)
            if over:
                self._begin(None)
                return
            obs = {agent: value for agent, value in obs.items() if self._index[agent] not in self._leaving}
            columns = self._columns(obs)
        self._write_obs(obs, columns)

    def get_state(self) -> dict[str, Any] | None:
        """The exact state, or None if the env's cannot be captured."""
        state, _ = snapshot.capture(self.env)
        if state is None:
            return None
        left = [[column, time] for column, time in self._left.items()]
        slot = {"acting": list(self._acting), "present": sorted(self._present), "left": left, "time": self._time}
        return {"env": state, "slot": slot}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `get_state` was called; the arrays are not written.

        Raises:
            CheckpointError: the state does not fit.
        """
        snapshot.restore(self.env, state["env"])
        slot = state["slot"]
        if any(column >= self._layout.num_agents for column in (*slot["acting"], *slot["present"])):
            raise CheckpointError(f"{self._name}: the saved state is of an env with more agents.")
        self._acting, self._present = list(slot["acting"]), set(slot["present"])
        self._left = {int(column): int(time) for column, time in slot["left"]}
        self._time = int(slot["time"])

    def close(self) -> None:
        """Close the env."""
        self.env.close()

    def _choose(self, actions: tuple[Tree, ...]) -> dict[AgentID, Any]:
        """Take the awaited actions out of the arrays; the env may keep them."""
        acting, agents, row = self._acting, self._agents, self._row
        if 2 * len(acting) < len(agents):
            return {agents[column]: self._pick(actions, column) for column in acting}
        values: list[Any] = []
        for place, discrete in enumerate(self._discrete):
            values += actions[place][row].tolist() if discrete else _rows(actions[place], row)
        return {agents[column]: values[column] for column in acting}

    def _pick(self, actions: tuple[Tree, ...], column: int) -> Any:
        """Take the action of one agent."""
        place, where = self._kinds[column], (self._row, self._current[column][1])
        if self._discrete[place]:
            return actions[place][where].item()
        return tree_map(lambda leaf: leaf[where].copy(), actions[place])

    def _clear(self) -> None:
        """Forget the last step."""
        self._reward.fill(0.0)
        self._first[0] = False
        if self._restarts[0]:
            self._restarts[0] = 0
            self._broken[0] = False
        if self._leaving:
            for flags in (self._terminated, self._truncated, self._final_observed):
                flags.fill(False)
            self._leaving.clear()

    def _begin(self, seed: int | None) -> None:
        """Reset the env and take its first observations."""
        self._time = 0
        try:
            obs, infos = self.env.reset(seed=seed)
        except RLError as error:
            raise EnvError(f"{self._where()}: {error}") from error
        except Exception as error:
            raise EnvError(f"{self._where()}: reset failed with {type(error).__name__}: {error}") from error
        self._take_first(obs, infos)

    def _take_first(self, obs: Mapping[AgentID, Any], infos: Mapping[Any, Any]) -> None:
        """Take the observations that an episode begins with."""
        self._time, self._present, self._left = 0, set(), {}
        self._restarts[0] = infos.get(RESTARTS, 0)
        if not obs:
            raise EnvError(
                f"{self._where()}: reset gave no agent an observation, so that nobody would ever act. Return those of "
                "the agents that act first."
            )
        columns = self._columns(obs)
        self._present.update(columns)
        self._first[0] = True
        self._write_obs(obs, columns)

    def _write_rewards(self, rewards: Mapping[AgentID, float]) -> None:
        """Write the rewards of this step."""
        row, index = self._reward, self._index
        agent: AgentID = None
        try:
            for agent, reward in rewards.items():
                row[index[agent]] = reward
        except KeyError:
            raise self._stranger(agent) from None
        except (TypeError, ValueError) as error:
            raise EnvError(
                f"{self._where()}: the reward of agent {agent!r} is {rewards[agent]!r}, expected a number."
            ) from error

    def _write_ends(self, terminateds: Mapping[Any, bool], truncateds: Mapping[Any, bool]) -> bool:
        """Write who leaves; return whether the episode is over."""
        both = ((terminateds, self._terminated), (truncateds, self._truncated))
        for flags, ends in both:
            self._leave([agent for agent, flag in flags.items() if flag and agent != EVERYONE], ends)
        over = False
        for flags, ends in both:
            if flags.get(EVERYONE):
                over = True
                self._leave([self._agents[column] for column in self._present], ends)
        return over or not self._present

    def _leave(self, agents: Sequence[AgentID], ends: np.ndarray) -> None:
        """Let agents leave that are present; `ends` is the flag column of why."""
        for agent in agents:
            column = self._index.get(agent)
            if column is None:
                raise self._stranger(agent)
            if column in self._present:
                self._present.discard(column)
                self._left[column] = self._time
                self._leaving.add(column)
            if column in self._leaving:
                ends[column] = True

    def _write_last(self, obs: Mapping[AgentID, Any], columns: Sequence[int]) -> None:
        """Write the last observations of agents that leave in this step."""
        last = [(agent, column) for agent, column in zip(obs, columns, strict=True) if column in self._leaving]
        self._write(self._final, {agent: obs[agent] for agent, _ in last}, [column for _, column in last])
        for _, column in last:
            self._final_observed[column] = True
            mask = self._final_masks.get(column)
            if mask is not None and not np.count_nonzero(mask):
                mask.fill(1)  # who leaves has no choice to make, and a module must not stumble over that

    def _write_obs(self, obs: Mapping[AgentID, Any], columns: list[int]) -> None:
        """Write what the agents act on next."""
        self._write(self._current, obs, columns)
        self._acting = columns
        everyone = len(columns) == len(self._agents)
        self._acts.fill(everyone)
        if not everyone:
            for column in columns:
                self._acts[column] = True
        if self._masks:
            self._check_masks(columns)

    def _write(
        self, places: Sequence[tuple[Sequence[_Leaf], int]], obs: Mapping[AgentID, Any], columns: Collection[int]
    ) -> None:
        """Write observations."""
        column = 0
        try:
            for value, column in zip(obs.values(), columns, strict=True):
                leaves, place = places[column]
                for keys, target, shape in leaves:
                    part = value
                    for key in keys:
                        part = part[key]
                    # Not left to numpy, which would broadcast; single numbers it refuses by itself.
                    if shape and (part.shape if type(part) is np.ndarray else np.shape(part)) != shape:
                        raise ValueError(f"shape {np.shape(part)}, expected {shape}")
                    target[place] = part
        except (KeyError, TypeError, ValueError, IndexError) as error:
            kind = self._layout.kinds[self._kinds[column]]
            raise EnvError(
                f"{self._where()}: the observation of agent {self._agents[column]!r} does not fit its space "
                f"{describe(kind.observation_space)}: {type(error).__name__}: {error}. Correct the env or its "
                "observation_spaces."
            ) from error

    def _check_masks(self, columns: Sequence[int]) -> None:
        """Refuse to let an agent act that may do nothing."""
        for column in columns:
            mask = self._masks.get(column)
            if mask is not None and not np.count_nonzero(mask):
                raise EnvError(
                    f"{self._where()}: agent {self._agents[column]!r} is to act, but its {MASK!r} allows no action. "
                    "Let the env end the episode, pass the turn on, or allow an action without effect."
                )

    def _refuse_left(self, columns: Sequence[int]) -> None:
        """Refuse observations for agents that left the episode."""
        for column in columns:
            if column in self._left:
                raise EnvError(
                    f"{self._where()}: agent {self._agents[column]!r} got an observation, but it left the episode "
                    f"at step {self._left[column]}. Let an agent stay silent until it comes back, or end the episode "
                    "first."
                )

    def _columns(self, obs: Mapping[AgentID, Any]) -> list[int]:
        """Find agents."""
        index = self._index
        try:
            return [index[agent] for agent in obs]
        except KeyError as error:
            raise self._stranger(error.args[0]) from None
        except TypeError as error:
            raise EnvError(f"{self._where()}: got observations {obs!r}, expected a dict by agent.") from error

    def _stranger(self, agent: AgentID) -> EnvError:
        """Say that there is no such agent."""
        return EnvError(
            f"{self._where()}: agent {agent!r} is not among possible_agents {self._agents}. Add it there; who may ever "
            "take part must be known from the start."
        )

    def _where(self) -> str:
        """Name the env, the slot and the step."""
        return f"{self._name}, env slot {self._row}, step {self._time}"


def _places(layout: AgentLayout, obs: tuple[Tree, ...], row: int) -> list[tuple[list[_Leaf], int]]:
    """Find for each column where the parts of its observations go."""
    return [
        (leaves, place)
        for kind, tree in zip(layout.kinds, obs, strict=True)
        for leaves in [list(_leaves(tree, row, ()))]
        for place in range(kind.num_agents)
    ]


def _leaves(tree: Tree, row: int, keys: tuple[Any, ...]) -> list[_Leaf]:
    """List the leaves of arrays `[E, A_k, ...]` of one kind."""
    if isinstance(tree, np.ndarray):
        return [(keys, tree[row], tree.shape[2:])]
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [leaf for key, part in parts for leaf in _leaves(part, row, (*keys, key))]


def _masks(layout: AgentLayout, obs: tuple[Tree, ...], row: int) -> dict[int, np.ndarray]:
    """Find the action masks of agents that have one, by column."""
    return {
        kind.start + place: tree[MASK][row, place]
        for kind, tree in zip(layout.kinds, obs, strict=True)
        if isinstance(tree, dict) and isinstance(tree.get(MASK), np.ndarray)
        for place in range(kind.num_agents)
    }


def _rows(tree: Tree, row: int) -> list[Any]:
    """List copies of the actions of all agents of a kind, in the structure of their space."""
    if isinstance(tree, np.ndarray):
        return list(tree[row].copy())
    copied = tree_map(lambda leaf: leaf[row].copy(), tree)
    num_agents = len(next(tree_leaves(copied)))
    return [tree_map(lambda leaf, place=place: leaf[place], copied) for place in range(num_agents)]
