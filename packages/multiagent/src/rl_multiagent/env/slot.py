"""One env slot: steps a `MultiAgentEnv` and writes what its dicts say into the slot's row of the arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rl_core.env import snapshot
from rl_core.errors import CheckpointError, EnvError, RLError
from rl_core.records import Tree
from rl_multiagent.env.agent_env import EVERYONE, AgentID, MultiAgentEnv
from rl_multiagent.env.arrays import AgentArrays
from rl_multiagent.env.layout import AgentLayout


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
        self._arrays = arrays
        self._row = row
        self._name = name
        self._places = [
            (arrays.obs[place], arrays.final_obs[place], column - kind.start)
            for place, kind in enumerate(layout.kinds)
            for column in range(kind.start, kind.stop)
        ]
        self._plain = [_is_plain(kind.action_space) for kind in layout.kinds for _ in range(kind.num_agents)]
        self._acting: list[int] = []
        """Columns of the agents whose actions are awaited."""
        self._present: set[int] = set()
        """Columns of the agents that took part in this episode and have not left."""
        self._left: dict[int, int] = {}
        """Column -> step at which the agent left this episode."""
        self._time = 0

    def reset(self, seed: int | None) -> None:
        """Begin an episode, giving up the one that is open."""
        self._clear()
        self._begin(seed)

    def step(self, actions: tuple[Tree, ...]) -> None:
        """Act.

        Args:
            actions: For each kind `[E, A_k, ...]`; read where an action is awaited.

        Raises:
            EnvError: the env failed, or said something that makes no sense; the message names slot, step and agent.
        """
        self._clear()
        chosen = {self._layout.agents[column]: self._action(actions, column) for column in self._acting}
        self._time += 1
        try:
            obs, rewards, terminateds, truncateds, _ = self.env.step(chosen)
        except RLError:
            raise
        except Exception as error:
            raise EnvError(f"{self._where()}: step failed with {type(error).__name__}: {error}") from error
        self._write_rewards(rewards)
        over = self._write_ends(obs, terminateds, truncateds)
        self._write_last(obs)
        if over:
            self._begin(None)
        else:
            self._write_obs({agent: value for agent, value in obs.items() if self._column(agent) in self._present})

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

    def _clear(self) -> None:
        """Forget the last step."""
        arrays, row = self._arrays, self._row
        for column in (arrays.acts, arrays.terminated, arrays.truncated, arrays.final_observed):
            column[row] = False
        arrays.reward[row] = 0.0
        arrays.first[row] = False

    def _begin(self, seed: int | None) -> None:
        """Reset the env and take its first observations."""
        self._time, self._present, self._left = 0, set(), {}
        try:
            obs, _ = self.env.reset(seed=seed)
        except RLError:
            raise
        except Exception as error:
            raise EnvError(f"{self._where()}: reset failed with {type(error).__name__}: {error}") from error
        self._arrays.first[self._row] = True
        self._write_obs(obs)

    def _action(self, actions: tuple[Tree, ...], column: int) -> Any:
        """Take the action of one agent out of the arrays."""
        place = self._layout.kind_of(column)
        action = _at(actions[place], self._row, column - self._layout.kinds[place].start)
        return action.item() if self._plain[column] else action

    def _write_rewards(self, rewards: Mapping[AgentID, float]) -> None:
        """Write the rewards of this step."""
        row = self._arrays.reward[self._row]
        for agent, reward in rewards.items():
            row[self._column(agent)] = reward

    def _write_ends(
        self, obs: Mapping[AgentID, Any], terminateds: Mapping[Any, bool], truncateds: Mapping[Any, bool]
    ) -> bool:
        """Write who leaves; return whether the episode is over."""
        arrays, row = self._arrays, self._row
        for agent in obs:  # who appears in the very step that ends the episode took part in it
            column = self._column(agent)
            if column in self._left:
                raise EnvError(
                    f"{self._where()}: agent {agent!r} got an observation, but it left the episode at step "
                    f"{self._left[column]}. Let an agent stay silent until it comes back, or end the episode first."
                )
            self._present.add(column)
        for flags, column_of in ((terminateds, arrays.terminated), (truncateds, arrays.truncated)):
            for agent, flag in flags.items():
                if flag and agent != EVERYONE:
                    self._leave(self._column(agent), column_of[row])
        everyone = bool(terminateds.get(EVERYONE)), bool(truncateds.get(EVERYONE))
        if any(everyone):
            ends = arrays.terminated[row] if everyone[0] else arrays.truncated[row]
            for column in list(self._present):
                self._leave(column, ends)
        return any(everyone) or not self._present

    def _leave(self, column: int, ends: np.ndarray) -> None:
        """Let a present agent leave; `ends` is the flag column of why."""
        if column in self._present:
            self._present.discard(column)
            self._left[column] = self._time
        if self._left.get(column) == self._time:
            ends[column] = True

    def _write_last(self, obs: Mapping[AgentID, Any]) -> None:
        """Write the last observations of agents that leave in this step."""
        if not self._left:
            return
        for agent, value in obs.items():
            column = self._column(agent)
            if self._left.get(column) == self._time:
                _, last, place = self._places[column]
                self._write(last, place, value, agent)
                self._arrays.final_observed[self._row, column] = True

    def _write_obs(self, obs: Mapping[AgentID, Any]) -> None:
        """Write what the agents act on next."""
        acting: list[int] = []
        for agent, value in obs.items():
            column = self._column(agent)
            current, _, place = self._places[column]
            self._write(current, place, value, agent)
            acting.append(column)
        self._acting = acting
        self._present.update(acting)
        self._arrays.acts[self._row, acting] = True

    def _write(self, tree: Tree, place: int, value: Any, agent: AgentID) -> None:
        """Write one observation."""
        try:
            if isinstance(tree, np.ndarray):
                if np.shape(value) != tree.shape[2:]:
                    raise ValueError(f"shape {np.shape(value)}, expected {tree.shape[2:]}")
                tree[self._row, place] = value
            else:
                _write_tree(tree, self._row, place, value)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise EnvError(
                f"{self._where()}: the observation of agent {agent!r} does not fit its space: {error}. Correct the env "
                "or its observation_spaces."
            ) from error

    def _column(self, agent: AgentID) -> int:
        """Find an agent."""
        try:
            return self._layout.index[agent]
        except KeyError:
            raise EnvError(
                f"{self._where()}: agent {agent!r} is not among possible_agents {self._layout.agents}. Add it there; "
                "who may ever take part must be known from the start."
            ) from None

    def _where(self) -> str:
        """Name the env, the slot and the step."""
        return f"{self._name}, env slot {self._row}, step {self._time}"


def _at(tree: Tree, row: int, place: int) -> Any:
    """Index every leaf; tuples and dicts stay."""
    if isinstance(tree, dict):
        return {key: _at(value, row, place) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_at(value, row, place) for value in tree)
    return tree[row, place]


def _write_tree(tree: Tree, row: int, place: int, value: Any) -> None:
    """Write a nested value."""
    if isinstance(tree, dict):
        for key, part in tree.items():
            _write_tree(part, row, place, value[key])
    elif isinstance(tree, tuple):
        for part, inner in zip(tree, value, strict=True):
            _write_tree(part, row, place, inner)
    else:
        tree[row, place] = value


def _is_plain(space: Any) -> bool:
    """Whether an action is one whole number, which envs get as an int."""
    return space.shape == () and np.issubdtype(space.dtype, np.integer)
