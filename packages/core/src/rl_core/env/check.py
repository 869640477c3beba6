"""Find out what is wrong with an env, before training and in what was sampled."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_core.env.spaces import check_supported, describe, leaf_spaces
from rl_core.errors import EnvError, UnsupportedSpaceError
from rl_core.tree import tree_leaves

Tree = Any
Array = np.ndarray[Any, Any]
_TIME_LIMIT_S = 2.0


def check_env(env: gymnasium.Env[Any, Any], num_steps: int = 30) -> list[str]:
    """Reset and step an env and compare what it does with gymnasium's contract.

    Args:
        env: Is reset and stepped; not closed.
        num_steps: Steps to take, fewer if they take longer than two seconds.

    Returns:
        Notes on what works but costs speed or reproducibility; often empty.

    Raises:
        EnvError: Lists everything found that training would break on: what was given, what was expected, what to do.
    """
    if not isinstance(env, gymnasium.Env):
        raise EnvError(
            f"check_env got a {type(env).__module__}.{type(env).__name__}, expected a gymnasium.Env object. "
            "rl_core.env.make.make_single_env makes one from an id, a class or a function."
        )
    check = _EnvCheck(env)
    if check.spaces_are_fine():
        first = check.play(num_steps)
        if not check.problems:
            check.compare(first, check.play(len(first)))
    if check.problems:
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        lines = "".join(f"\n  - {problem}" for problem in check.problems.values())
        raise EnvError(f"The env {name} does not keep to gymnasium's contract:{lines}") from check.cause
    return list(check.notes.values())


class _EnvCheck:
    """What was found so far; a finding that repeats in every step is told once."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self.env = env
        self.problems: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.cause: Exception | None = None

    def problem(self, key: str, text: str) -> None:
        self.problems.setdefault(key, text)

    def spaces_are_fine(self) -> bool:
        for name in ("observation_space", "action_space"):
            space = getattr(self.env, name, None)
            if space is None:
                self.problem(name, f"It has no {name}. Set self.{name} to a gymnasium space in __init__.")
                continue
            try:
                check_supported(space, name)
            except UnsupportedSpaceError as error:
                self.problem(name, str(error))
        return not self.problems

    def play(self, num_steps: int) -> list[tuple[Tree, float, bool, bool]]:
        """Seeded steps with seeded actions; returns `(obs, reward, terminated, truncated)` of each, the reset first."""
        actions = copy.deepcopy(self.env.action_space)
        actions.seed(0)
        obs, started = self._reset(seed=0), time.perf_counter()
        trace: list[tuple[Tree, float, bool, bool]] = [(copy.deepcopy(obs), 0.0, False, False)]
        for step in range(1, num_steps + 1):
            if self.problems or time.perf_counter() - started > _TIME_LIMIT_S:
                break
            kept = copy.deepcopy(obs)
            result = self._call(f"step {step}", lambda: self.env.step(actions.sample()))
            if result is None or not self._is_step(result):
                break
            if not _same(obs, kept):
                self.notes["alias"] = (
                    "The observation object is changed by the next step: the env returns its own buffer. The vector "
                    "envs of this library copy it, others may not; return a copy."
                )
            obs, reward, terminated, truncated, _ = result
            self._check_observation(obs, f"step {step}")
            trace.append((copy.deepcopy(obs), float(reward), bool(terminated), bool(truncated)))
            if terminated or truncated:
                obs = self._reset(seed=None)
        return trace

    def compare(self, first: list[Any], second: list[Any]) -> None:
        """Note where two plays from one seed differ."""
        if self.env.spec is not None and self.env.spec.nondeterministic:
            return
        for step, (a, b) in enumerate(zip(first, second, strict=False)):
            if not (_same(a[0], b[0]) and a[1:] == b[1:]):
                where = "the first observation differs" if step == 0 else f"they differ from step {step} on"
                self.notes["seed"] = (
                    f"Two runs from reset(seed=0) with the same actions are not the same: {where}. Training cannot be "
                    "repeated. Call super().reset(seed=seed) and draw from self.np_random only."
                )
                return

    def _call(self, what: str, function: Any) -> Any:
        try:
            return function()
        except Exception as error:
            self.cause = error
            self.problem(what, f"{what} raised {type(error).__name__}: {error}")
            return None

    def _reset(self, seed: int | None) -> Tree:
        what = "reset(seed=0)" if seed is not None else "reset() after the end of an episode"
        result = self._call(what, lambda: self.env.reset(seed=seed))
        if self.cause is not None:
            return None
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            self.problem("reset", f"{what} returned {_shortly(result)}, expected (observation, info dict).")
            return None
        self._check_observation(result[0], what)
        return result[0]

    def _is_step(self, result: Any) -> bool:
        if not (isinstance(result, tuple) and len(result) == 5):
            self.problem(
                "step",
                f"step returned {_shortly(result)}, expected (observation, reward, terminated, truncated, info).",
            )
            return False
        _, reward, terminated, truncated, info = result
        if isinstance(reward, bool | np.bool_) or not isinstance(reward, int | float | np.integer | np.floating):
            self.problem("reward", f"The reward is {_shortly(reward)}, expected a number. Return float(reward).")
        elif not math.isfinite(reward):
            self.problem("reward", f"The reward is {reward}, expected a finite number.")
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(value, bool | np.bool_):
                self.problem(name, f"{name} is {_shortly(value)}, expected a bool. Return bool({name}).")
        if not isinstance(info, dict):
            self.problem("info", f"The info is {_shortly(info)}, expected a dict.")
        return not self.problems

    def _check_observation(self, obs: Tree, when: str) -> None:
        self._check_part(self.env.observation_space, obs, "", when)

    def _check_part(self, space: spaces.Space[Any], part: Any, path: str, when: str) -> None:
        if isinstance(space, spaces.Dict):
            if not isinstance(part, Mapping) or set(part) != set(space.spaces):
                got = f"the keys {list(part)}" if isinstance(part, Mapping) else _shortly(part)
                self.problem(path, f"{when}: observation{path} has {got}, expected a dict of {list(space.spaces)}.")
                return
            for key, child in space.spaces.items():
                self._check_part(child, part[key], f"{path}[{key!r}]", when)
        elif isinstance(space, spaces.Tuple):
            if not isinstance(part, tuple) or len(part) != len(space.spaces):
                text = f"{when}: observation{path} is {_shortly(part)}, expected a tuple of {len(space.spaces)} parts."
                self.problem(path, text)
                return
            for index, child in enumerate(space.spaces):
                self._check_part(child, part[index], f"{path}[{index}]", when)
        else:
            self._check_leaf(space, part, path, when)

    def _check_leaf(self, space: spaces.Space[Any], leaf: Any, path: str, when: str) -> None:
        where = f"{when}: observation{path}"
        try:
            array = np.asarray(leaf)
        except ValueError:
            array = np.asarray(None)
        kinds = "biuf" if space.dtype is not None and space.dtype.kind == "f" else "biu"
        if array.dtype.kind not in kinds:
            self.problem(path, f"{where} is {_shortly(leaf)}, expected {space.dtype} values of {describe(space)}.")
            return
        if array.shape != space.shape:
            self.problem(path, f"{where} has shape {array.shape}, expected {space.shape}: {describe(space)}.")
            return
        bad = find_bad_values(space, array[None, None], f"observation{path}")
        if bad:
            self.problem(path, f"{when}: {bad}. Correct the value, or the space.")
        elif isinstance(space, spaces.Box) and not isinstance(leaf, np.ndarray | np.generic):
            self.notes[path] = f"observation{path} is a {type(leaf).__name__}, expected an array; it is converted."
        elif isinstance(space, spaces.Box) and not np.can_cast(array.dtype, np.dtype(space.dtype)):
            self.notes[path] = (
                f"observation{path} is {array.dtype} where its space says {space.dtype}; it is converted at each step. "
                f"Return it as {space.dtype}."
            )


def _shortly(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: ({', '.join(type(item).__name__ for item in value)})"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _same(a: Tree, b: Tree) -> bool:
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
    return all(
        np.array_equal(np.asarray(x), np.asarray(y), equal_nan=np.asarray(x).dtype.kind == "f") for x, y in pairs
    )


# Whole rollouts -------------------------------------------------------------------------------------------------------


def check_observations(
    obs: Tree, space: spaces.Space[Any], num_slots: int, what: str, *, casting: Literal["same_kind", "equal_kind"]
) -> None:
    """Compare a batch of observations with their space: structure, shapes, kinds of numbers; not the values.

    Args:
        obs: `[B, ...]`.
        space: Of one.
        num_slots: B.
        what: Returned them, for messages.
        casting: Whether whole numbers pass where real ones are declared, which only who casts them can use.

    Raises:
        EnvError: they differ; the message names the part.
    """
    for (path, leaf_space), leaf in zip(leaf_spaces(space), _leaves_like(space, obs, what), strict=True):
        expected, dtype = (num_slots, *(leaf_space.shape or ())), np.dtype(leaf_space.dtype)
        fits = isinstance(leaf, np.ndarray) and leaf.shape == expected and np.can_cast(leaf.dtype, dtype, "same_kind")
        if not fits or (casting == "equal_kind" and leaf.dtype.kind != dtype.kind):
            raise EnvError(
                f"{what} returned the observation{path} as {array_text(leaf)}, expected a {leaf_space.dtype} array of "
                f"shape {expected}: {num_slots} slots of {describe(leaf_space)}."
            )


def _leaves_like(space: spaces.Space[Any], obs: Tree, what: str) -> list[Any]:
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, Mapping) or set(obs) != set(space.spaces):
            got = f"the keys {list(obs)}" if isinstance(obs, Mapping) else f"type {type(obs).__name__}"
            raise EnvError(f"{what} returned an observation with {got}, expected a dict of {list(space.spaces)}.")
        return [leaf for key, child in space.spaces.items() for leaf in _leaves_like(child, obs[key], what)]
    if isinstance(space, spaces.Tuple):
        if not isinstance(obs, tuple) or len(obs) != len(space.spaces):
            raise EnvError(
                f"{what} returned an observation of type {type(obs).__name__}, expected a tuple of "
                f"{len(space.spaces)} batched parts."
            )
        return [leaf for child, part in zip(space.spaces, obs, strict=True) for leaf in _leaves_like(child, part, what)]
    return [obs]


def array_text(value: Any) -> str:
    """Name what came where an array was expected."""
    return f"a {value.dtype} array of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def find_bad_values(space: spaces.Space[Any], obs: Tree, name: str = "observation") -> str | None:
    """Name the first value that is NaN, infinite or outside its space, or return None.

    Costs one minimum and one maximum per leaf; leaves of integers whose space is all their type can hold cost nothing.

    Args:
        space: Space of a single observation.
        obs: Arrays or CPU tensors `[T, B, ...]` in the structure of the space.
        name: What the message calls `obs`.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        children = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        parts = ((child, obs[key], f"{name}[{key!r}]") for key, child in children)
        return next((text for part in parts if (text := find_bad_values(*part))), None)
    array = np.asarray(obs)
    low, high = (space.low, space.high) if isinstance(space, spaces.Box) else bounds_of(space)
    if array.dtype.kind in "iu" and array.dtype == low.dtype:
        info = np.iinfo(array.dtype)
        if (low == info.min).all() and (high == info.max).all():
            return None
    if array.shape[2:] != space.shape:
        return f"{name} has shape {array.shape[2:]}, expected {space.shape}"
    if array.size == 0:
        return None
    if array.dtype.kind == "f":  # compare at the precision of the values: rounding must not push one over its bound
        low, high = low.astype(array.dtype), high.astype(array.dtype)
    # One axis after the other keeps numpy's inner loop long. NaN if any is NaN, and NaN fails all comparisons.
    smallest, largest = array.min(axis=0).min(axis=0), array.max(axis=0).max(axis=0)
    if ((smallest >= low) & (largest <= high) & np.isfinite(smallest) & np.isfinite(largest)).all():
        return None
    position = tuple(np.argwhere(~((array >= low) & (array <= high) & np.isfinite(array)))[0].tolist())
    step, slot, index = position[0], position[1], position[2:]
    place = f"{name} at {index}" if index else name
    where = f"{place}, step {step}, slot {slot}" if array.shape[:2] != (1, 1) else place
    return (
        f"{where} is {array[position]}, expected a finite number in [{low[index]:g}, {high[index]:g}] of "
        f"{describe(space)}"
    )


def bounds_of(space: spaces.Space[Any]) -> tuple[Array, Array]:
    """Lowest and highest allowed values of a discrete space, in its shape."""
    if isinstance(space, spaces.Discrete):
        return np.asarray(space.start), np.asarray(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return np.asarray(space.start), np.asarray(space.start + space.nvec - 1)
    shape = space.shape or ()
    return np.zeros(shape, dtype=np.int64), np.ones(shape, dtype=np.int64)
