"""Find out what is wrong with an env of many agents, before training."""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_core.env.check import find_bad_values
from rl_core.env.spaces import describe
from rl_core.errors import EnvError
from rl_multiagent.env.agent_env import EVERYONE, AgentID, MultiAgentEnv
from rl_multiagent.env.layout import agent_layout
from rl_multiagent.env.slot import MASK

_TIME_LIMIT_S = 1.0
_Trace = list[tuple[Any, ...]]


def check_multi_agent_env(env: MultiAgentEnv, num_steps: int = 50) -> list[str]:
    """Reset and step an env with random actions and compare what it says with the contract of `MultiAgentEnv`.

    Args:
        env: Is reset and stepped; not closed.
        num_steps: Steps to take, fewer if they take longer than a second.

    Returns:
        Notes on what works but costs speed or reproducibility; often empty.

    Raises:
        EnvError: Lists everything found that training would break on, with agent and step.
    """
    if not isinstance(env, MultiAgentEnv):
        raise EnvError(
            f"check_multi_agent_env got a {type(env).__module__}.{type(env).__name__}, expected a MultiAgentEnv. "
            "make_multi_agent_env makes one from a class or a function, and wraps envs of PettingZoo."
        )
    name = type(env).__name__
    agent_layout(env, name)
    check = _Check(env)
    first = check.play(num_steps)
    if not check.problems:
        check.compare(first, check.play(len(first) - 1))
    if check.problems:
        lines = "".join(f"\n  - {problem}" for problem in check.problems.values())
        raise EnvError(f"The env {name} does not keep to the contract of MultiAgentEnv:{lines}") from check.cause
    return list(check.notes.values())


class _Check:
    """What was found so far; a finding that repeats in every step is told once."""

    def __init__(self, env: MultiAgentEnv) -> None:
        self.env = env
        self.problems: dict[Any, str] = {}
        self.notes: dict[Any, str] = {}
        self.cause: Exception | None = None
        self._when = ""
        self._known = set(env.possible_agents)
        self._drawn: dict[AgentID, spaces.Space[Any]] = {}
        """Copies of the action spaces, seeded for one play."""
        self._present: set[AgentID] = set()
        self._left: dict[AgentID, str] = {}
        """Who left this episode, and when."""

    def play(self, num_steps: int) -> _Trace:
        """Take seeded steps; return what the env said in each, the reset first."""
        rng = np.random.default_rng(0)
        self._drawn.clear()
        started = time.perf_counter()
        obs = self._reset(0)
        trace: _Trace = [(copy.deepcopy(obs),)]
        for step in range(1, num_steps + 1):
            if self.problems or time.perf_counter() - started > _TIME_LIMIT_S:
                break
            actions = {agent: self._choose(agent, value, rng) for agent, value in obs.items()}
            if self.problems:
                break
            self._when = f"step {step}"
            result = self._call(functools.partial(self.env.step, actions))
            if not self._is_step(result):
                break
            trace.append(copy.deepcopy(result[:4]))
            obs, over = self._receive(*result[:4])
            if over:
                self._when = f"reset after step {step}"
                obs = self._reset(None)
        return trace

    def compare(self, first: _Trace, second: _Trace) -> None:
        """Note where two plays from one seed differ."""
        for step, (one, two) in enumerate(zip(first, second, strict=False)):
            if not _same(one, two):
                where = "the first observations differ" if step == 0 else f"they differ from step {step} on"
                self.notes["seed"] = (
                    f"Two runs from reset(seed=0) with the same actions are not the same: {where}. Training cannot be "
                    "repeated. Draw from a generator that reset(seed=...) makes anew."
                )
                return

    def _problem(self, key: Any, text: str) -> None:
        """Remember what is wrong."""
        self.problems.setdefault(key, f"{self._when}: {text}")

    def _call(self, function: Callable[[], Any]) -> Any:
        """Call the env."""
        try:
            return function()
        except Exception as error:
            self.cause = error
            self._problem("raised", f"raised {type(error).__name__}: {error}")
            return None

    def _reset(self, seed: int | None) -> dict[Any, Any]:
        """Begin an episode; return the first observations."""
        self._when = self._when or "reset"
        self._present, self._left = set(), {}
        result = self._call(lambda: self.env.reset(seed=seed))
        if self.cause is not None:
            return {}
        if not (isinstance(result, tuple) and len(result) == 2 and all(isinstance(part, dict) for part in result)):
            self._problem("reset", f"returned {_shortly(result)}, expected (observations, infos), dicts by agent.")
            return {}
        if not result[0]:
            self._problem("reset", "gave no agent an observation, so that nobody would ever act.")
        self._check_obs(result[0])
        self._present = set(result[0])
        return dict(result[0])

    def _is_step(self, result: Any) -> bool:
        """Check the form of what `step` returned."""
        names = ("observations", "rewards", "terminateds", "truncateds", "infos")
        if self.cause is not None:
            return False
        if not (isinstance(result, tuple) and len(result) == 5):
            self._problem("step", f"returned {_shortly(result)}, expected ({', '.join(names)}).")
            return False
        for name, part in zip(names, result, strict=True):
            if not isinstance(part, dict):
                self._problem(name, f"{name} are {_shortly(part)}, expected a dict by agent.")
        return not self.problems

    def _receive(
        self, obs: Mapping[Any, Any], rewards: Mapping[Any, Any], *ends: Mapping[Any, Any]
    ) -> tuple[dict[Any, Any], bool]:
        """Check what `step` said; return the observations that are acted on, and whether the episode is over."""
        self._check_obs(obs)
        new = set(obs) - self._present
        self._present |= new
        for agent, reward in rewards.items():
            self._check_reward(agent, reward)
        gone: set[AgentID] = set()
        for what, flags in zip(("terminateds", "truncateds"), ends, strict=True):
            for agent, flag in flags.items():
                if agent != EVERYONE:
                    self._check_known(agent, what)
                if not isinstance(flag, bool | np.bool_):
                    self._problem((what, agent), f"{what}[{agent!r}] is {_shortly(flag)}, expected a bool.")
                elif flag:
                    gone.add(agent)
        over = EVERYONE in gone
        for agent in new if over else ():
            self.notes[agent] = f"{self._when}: agent {agent!r} appeared when the episode ended, and never acted."
        for agent in gone & self._present:
            self._present.discard(agent)
            self._left[agent] = self._when
        return {agent: value for agent, value in obs.items() if agent not in gone}, over or not self._present

    def _choose(self, agent: AgentID, obs: Any, rng: np.random.Generator) -> Any:
        """Draw an action that the mask allows; for a group, that each member's mask allows."""
        space = self.env.action_spaces[agent]
        if agent not in self._drawn:
            self._drawn[agent] = copy.deepcopy(space)
            self._drawn[agent].seed(int(rng.integers(2**31)))
        action = self._drawn[agent].sample()
        if isinstance(space, spaces.Tuple) and isinstance(obs, tuple) and len(obs) == len(space.spaces):
            members = zip(space.spaces, obs, action, strict=True)
            legal = (_legal(part, seen, rng, otherwise=drawn) for part, seen, drawn in members)
            return tuple(drawn if own is None else own for own, drawn in zip(legal, action, strict=True))
        action = _legal(space, obs, rng, otherwise=action)
        if action is None:
            self._problem(
                ("mask", agent),
                f"agent {agent!r} is to act, but its {MASK!r} allows no action. Let the env end the episode, pass "
                "the turn on, or allow an action without effect.",
            )
        return action

    def _check_known(self, agent: AgentID, what: str) -> bool:
        """Refuse agents that are not possible."""
        if agent not in self._known:
            self._problem(
                ("unknown", agent),
                f"{what} name agent {agent!r}, which is not among possible_agents {tuple(self.env.possible_agents)}.",
            )
        return agent in self._known

    def _check_reward(self, agent: AgentID, reward: Any) -> None:
        """Check one reward."""
        self._check_known(agent, "rewards")
        number = isinstance(reward, int | float | np.integer | np.floating) and not isinstance(reward, bool)
        if not number or not math.isfinite(reward):
            self._problem(
                ("reward", agent), f"the reward of agent {agent!r} is {_shortly(reward)}, expected a finite number."
            )

    def _check_obs(self, obs: Mapping[Any, Any]) -> None:
        """Check all observations."""
        for agent, value in obs.items():
            if agent in self._left:
                self._problem(
                    ("left", agent),
                    f"agent {agent!r} got an observation, but it left the episode at {self._left[agent]}. Let an agent "
                    "stay silent until it comes back, or end the episode first.",
                )
            elif self._check_known(agent, "observations"):
                bad = _misfit(self.env.observation_spaces[agent], value, "")
                if bad:
                    self._problem(("obs", agent), f"the observation{bad[0]} of agent {agent!r} {bad[1]}")


def _misfit(space: spaces.Space[Any], value: Any, path: str) -> tuple[str, str] | None:
    """Find the first part of an observation that is not in its space, and what is wrong with it."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = dict(space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces))
        if isinstance(space, spaces.Dict) and not (isinstance(value, Mapping) and set(value) == set(parts)):
            got = f"the keys {list(value)}" if isinstance(value, Mapping) else _shortly(value)
            return path, f"has {got}, expected a dict of {list(parts)}."
        if isinstance(space, spaces.Tuple) and not (isinstance(value, tuple) and len(value) == len(parts)):
            return path, f"is {_shortly(value)}, expected a tuple of {len(parts)} parts."
        found = (_misfit(part, value[key], f"{path}[{key!r}]") for key, part in parts.items())
        return next((bad for bad in found if bad), None)
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in ("biuf" if np.dtype(space.dtype).kind == "f" else "biu"):
        return path, f"is {_shortly(value)}, expected {space.dtype} values of {describe(space)}."
    if array.shape != space.shape:
        return path, f"has shape {array.shape}, expected {space.shape}: {describe(space)}."
    bad = find_bad_values(space, array[None, None], "value")
    return (path, f"is outside its space: {bad}.") if bad else None


def _shortly(value: Any) -> str:
    """Describe a value in a few words."""
    if isinstance(value, np.ndarray) and value.size > 1:
        return f"a {value.dtype} array of shape {value.shape}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: ({', '.join(type(item).__name__ for item in value)})"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _same(one: Any, two: Any) -> bool:
    """Compare nested dicts and tuples of arrays and numbers."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return set(one) == set(two) and all(_same(value, two[key]) for key, value in one.items())
    if isinstance(one, tuple) and isinstance(two, tuple):
        return len(one) == len(two) and all(_same(*pair) for pair in zip(one, two, strict=True))
    array = np.asarray(one)
    return np.array_equal(array, np.asarray(two), equal_nan=array.dtype.kind == "f")


def _legal(space: spaces.Space[Any], obs: Any, rng: np.random.Generator, *, otherwise: Any) -> Any:
    """Draw an action that the mask in an observation allows, None if it allows none; `otherwise` without a mask."""
    mask = obs.get(MASK) if isinstance(obs, Mapping) else None
    if mask is None or not isinstance(space, spaces.Discrete):
        return otherwise
    legal = np.flatnonzero(mask)
    return int(space.start) + int(rng.choice(legal)) if len(legal) else None
