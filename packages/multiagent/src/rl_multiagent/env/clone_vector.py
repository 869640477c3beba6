"""Cloned agents as the rows of one gymnasium vector env: nothing is done per agent."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from rl_core.env.gym_vector import GymVectorEnv
from rl_core.errors import CheckpointError, EnvError
from rl_core.records import Tree
from rl_core.tree import tree_map
from rl_multiagent.env.layout import agent_layout, zeros
from rl_multiagent.records import AgentsStep


class ClonedAgentsVectorEnv:
    """E env slots of A agents in the E * A rows of a vector env.

    An agent that ended waits for the others of its slot. Its row plays on unseen and begins anew with the slot, so the
    env must be able to reset rows on request:

        DISABLED    `reset(options={"reset_mask": mask})`; a slot begins anew in the step in which its last agent ends
        NEXT_STEP   rows marked in the env's `prev_done` are reset by the step that follows, as in gymnasium's own
                    vectorised envs; in that step nobody acts in the slot
    """

    def __init__(self, rows: GymVectorEnv, num_envs: int, *, name: str) -> None:
        """Take ownership of the vector env.

        Args:
            rows: E * A rows.
            num_envs: E.
            name: What messages call it.

        Raises:
            EnvError: its rows cannot be reset on request.
        """
        self.num_envs = num_envs
        self._rows = rows
        self._name = name
        self._disabled = rows.autoreset_mode is AutoresetMode.DISABLED
        marked = getattr(rows.env.unwrapped, "prev_done", None)
        if not self._disabled and not (
            rows.autoreset_mode is AutoresetMode.NEXT_STEP and isinstance(marked, np.ndarray)
        ):
            raise EnvError(
                f"{name}: its vectorised form (autoreset mode {rows.autoreset_mode.name}) cannot reset single rows on "
                "request, which clones need whose agents wait for each other. Give it the mode DISABLED, or use "
                "gym_env_vectorize_mode='sync'."
            )
        agents = tuple(str(place) for place in range(rows.num_envs // num_envs))
        spaces = [dict.fromkeys(agents, space) for space in (rows.observation_space, rows.action_space)]
        self.layout = agent_layout(
            SimpleNamespace(possible_agents=agents, observation_spaces=spaces[0], action_spaces=spaces[1]), name
        )
        self._shape = (num_envs, len(agents))
        self._structure = zeros(rows.observation_space, ())
        idle = copy.deepcopy(rows.action_space)
        idle.seed(0)
        self._idle: Tree = tree_map(np.asarray, idle.sample())  # what a row does that nobody sees
        self._alive = np.ones(self._shape, bool)
        self._ended = np.zeros(num_envs, bool)  # slots that NEXT_STEP begins anew in the coming step

    def reset(self, seed: int | None = None) -> AgentsStep:
        """Begin a new episode in every slot."""
        obs = self._rows.reset(seed).obs
        self._alive[:] = True
        self._ended[:] = False
        nobody = np.zeros(self._shape, bool)
        obs = self._by_slot(obs)
        return AgentsStep(
            obs=(obs,),
            acts=self._alive.copy(),
            reward=np.zeros(self._shape),
            terminated=nobody,
            truncated=nobody,
            first=np.ones(self.num_envs, bool),
            final_obs=(obs,),
            final_observed=nobody,
        )

    def step(self, actions: tuple[Tree, ...]) -> AgentsStep:
        """Act in every slot."""
        began = self._ended[:, np.newaxis]
        acted = self._alive & ~began
        obs, reward, terminated, truncated = self._step_rows(actions[0], acted)
        terminated, truncated = terminated & acted, truncated & acted
        done = terminated | truncated
        self._alive = (self._alive | began) & ~done
        over: np.ndarray = ~np.any(self._alive, axis=1)
        first, final_obs = self._ended, obs
        if not self._disabled:
            self._mark(over)
        elif done.any():
            final_obs = tree_map(np.copy, obs)
            obs = self._reset_rows(done | over[:, np.newaxis])
            self._alive[over] = True
            first = over
        return AgentsStep(
            obs=(obs,),
            acts=self._alive.copy(),
            reward=np.where(acted, reward, 0.0),
            terminated=terminated,
            truncated=truncated,
            first=first,
            final_obs=(final_obs,),
            final_observed=done,
        )

    def close(self) -> None:
        """Close the vector env."""
        self._rows.close()

    def get_state(self) -> dict[str, Any] | None:
        """The state of all rows, and who waits."""
        rows = self._rows.get_state()
        return None if rows is None else {"rows": rows, "alive": self._alive.copy(), "ended": self._ended.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `get_state` was called.

        Raises:
            CheckpointError: the state does not fit.
        """
        alive, ended = np.array(state["alive"]), np.array(state["ended"])
        if alive.shape != self._shape or ended.shape != (self.num_envs,):
            raise CheckpointError(
                f"{self._name}: the saved state is of {alive.shape} agents, this env has {self._shape}."
            )
        self._rows.set_state(state["rows"])
        self._alive, self._ended = alive, ended

    def _step_rows(self, action: Tree, acted: np.ndarray) -> tuple[Tree, np.ndarray, np.ndarray, np.ndarray]:
        """Step all rows; return their observations, rewards and flags, each `[E, A, ...]`."""
        if not acted.all():
            action = tree_map(
                lambda leaf, idle: np.where(acted.reshape(*self._shape, *[1] * (leaf.ndim - 2)), leaf, idle),
                action,
                self._idle,
            )
        flat = tree_map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), action)
        try:
            obs, reward, terminated, truncated, _ = self._rows.env.step(flat)
        except Exception as error:
            raise EnvError(f"{self._name}: step failed with {type(error).__name__}: {error}") from error
        parts = (np.asarray(part).reshape(self._shape) for part in (reward, terminated, truncated))
        return self._by_slot(obs), *parts

    def _reset_rows(self, mask: np.ndarray) -> Tree:
        """Begin rows anew; return the observations of all."""
        try:
            obs, _ = self._rows.env.reset(options={"reset_mask": mask.reshape(-1)})
        except Exception as error:
            raise EnvError(
                f"{self._name}: resetting {int(mask.sum())} rows failed with {type(error).__name__}: {error}"
            ) from error
        return self._by_slot(obs)

    def _mark(self, over: np.ndarray) -> None:
        """Let the next step begin all rows of some slots anew."""
        self._ended = over
        if over.any():
            env: Any = self._rows.env.unwrapped
            env.prev_done.reshape(self._shape)[over] = True

    def _by_slot(self, obs: Tree) -> Tree:
        """View observations `[E * A, ...]` as `[E, A, ...]`."""
        return tree_map(lambda _, leaf: leaf.reshape(*self._shape, *leaf.shape[1:]), self._structure, obs)
