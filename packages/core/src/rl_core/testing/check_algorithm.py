"""Conformance check of an algorithm: what runs, checkpoints and resuming rely on."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gymnasium import spaces

from rl_core.algorithm.algorithm import Algorithm
from rl_core.algorithm.config import AlgorithmConfig
from rl_core.errors import ConfigError, RLError
from rl_core.policy import Policy
from rl_core.tree import tree_map

_NUM_ITERATIONS = 2
_NUM_EPISODES = 3
_CLOCKS = ("time", "_per_s", "timers/")


class AlgorithmCheckError(RLError, AssertionError):
    """An algorithm breaks a rule that the library relies on."""


def check_algorithm(config: AlgorithmConfig) -> None:
    """Check that what a config builds keeps the rules of `Algorithm`; call it in your tests.

    It checks that results never lose a key and hold numbers, that the same seed gives the same results, that
    the config survives JSON, that a run continued from a checkpoint does exactly what the uninterrupted one does, that
    evaluation plays the episodes asked for and changes nothing, and that the policies of a checkpoint act.

    Args:
        config: With small settings: it is trained for a dozen iterations. Envs and classes must be importable.

    Raises:
        AlgorithmCheckError: names the first rule that is broken.
    """
    first = config.build()
    twin = config.build()
    try:
        results = [first.train() for _ in range(_NUM_ITERATIONS)]
        _check_results(results)
        repeated = [twin.train() for _ in range(_NUM_ITERATIONS)]
        _check_equal(results, repeated, "Two runs with the same seed differ")
        _check_config(config)
        with tempfile.TemporaryDirectory() as folder:
            _check_resuming(first, twin, Path(folder))
        _check_evaluation(first, twin)
    finally:
        first.stop()
        twin.stop()
    first.stop()  # a second time must be fine


def without_clocks(result: Mapping[str, float]) -> dict[str, float]:
    """Leave out the figures of a result that tell how long something took."""
    return {key: value for key, value in result.items() if not any(word in key for word in _CLOCKS)}


def _demand(condition: bool, message: str) -> None:
    if not condition:
        raise AlgorithmCheckError(message)


def _check_results(results: list[dict[str, float]]) -> None:
    """Results are flat, have stable keys, and count."""
    for place, result in enumerate(results):
        lost = set(results[place - 1] if place else ()) - set(result)
        _demand(
            not lost, f"train() returned {sorted(lost)} once and then no more. Give NaN where there is nothing new."
        )
        for key, value in result.items():
            given: object = value
            number = isinstance(given, int | float) and not isinstance(given, bool)
            _demand(number, f"train() returned {key} = {value!r}, expected a number.")
    for key in ("env_steps", "training_iteration"):
        counts = [result[key] for result in results]
        _demand(counts == sorted(set(counts)), f"{key} does not grow from one train() to the next: {counts}.")


def _check_equal(expected: list[dict[str, float]], got: list[dict[str, float]], what: str) -> None:
    for iteration, pair in enumerate(zip(expected, got, strict=True)):
        one, two = map(without_clocks, pair)
        for key, value in one.items():
            other = two.get(key, math.nan)
            same = value == other or (math.isnan(value) and math.isnan(other))
            _demand(same, f"{what}: {key} of call {iteration} is {other!r}, expected {value!r}.")


def _check_config(config: AlgorithmConfig) -> None:
    try:
        stored = json.loads(json.dumps(config.to_dict()))
        back = type(config).from_dict(stored, allow=_own_packages())
    except (ConfigError, TypeError) as error:
        raise AlgorithmCheckError(f"The config does not survive JSON: {error}") from error
    _demand(type(back) is type(config), f"The config came back from JSON as a {type(back).__name__}.")
    _demand(back.to_dict() == config.to_dict(), "The config came back from JSON with other settings.")


def _own_packages() -> set[str]:
    """Everything imported in this process: the config came from here, its functions may be named."""
    return {name.partition(".")[0] for name in sys.modules}


def _check_resuming(first: Algorithm, twin: Algorithm, folder: Path) -> None:
    """Checkpoint in the middle of episodes; go on here, from the file, and in an algorithm restored in place."""
    path = first.save(folder / "first")
    resumed = Algorithm.from_checkpoint(path, allow=_own_packages())
    try:
        expected = [first.train() for _ in range(_NUM_ITERATIONS)]
        if any(state.get("env", True) is None for state in first.env_runner.get_states()):
            return  # an env whose state cannot be captured begins new episodes
        _check_equal(expected, [resumed.train() for _ in range(_NUM_ITERATIONS)], "A run continued from a file differs")
        twin.train()
        twin.restore(path)
        _check_equal(expected, [twin.train() for _ in range(_NUM_ITERATIONS)], "A run restored in place differs")
        counts = (twin.iteration, twin.env_steps, twin.num_episodes)
        _demand(counts == (first.iteration, first.env_steps, first.num_episodes), "Counters differ after restoring.")
    finally:
        resumed.stop()
    for name, policy in first.env_runner.policies.items():
        _check_policy(name, policy, Policy.from_checkpoint(path, name, allow=_own_packages()))


def _check_policy(name: str, policy: Policy, exported: Policy) -> None:
    """The policy of a checkpoint acts within the action space, and knows where an episode begins."""
    space = policy.observation_space
    space.seed(0)
    state = None
    for _ in range(3):
        action, state = exported.act(_plain(space.sample()), state)
        inside = _inside(exported.action_space, action)
        _demand(inside, f"Policy {name!r} chose {action!r}, which is not in {exported.action_space}.")


def _plain(sample: Any) -> Any:
    """Turn gymnasium's ordered dicts into dicts."""
    if isinstance(sample, dict):
        return {key: _plain(value) for key, value in sample.items()}
    return tuple(_plain(value) for value in sample) if isinstance(sample, tuple) else sample


def _inside(space: spaces.Space[Any], action: Any) -> bool:
    if isinstance(space, spaces.Dict):
        return all(_inside(part, action[key]) for key, part in space.spaces.items())
    if isinstance(space, spaces.Tuple):
        return all(_inside(part, one) for part, one in zip(space.spaces, action, strict=True))
    return isinstance(space, spaces.Box) or bool(space.contains(action))


def _check_evaluation(first: Algorithm, twin: Algorithm) -> None:
    """Evaluation plays so many episodes, repeats, and leaves training as it was."""
    weights = [tree_map(lambda leaf: leaf.clone(), dict(policy.module.state_dict())) for policy in _policies(first)]
    result = first.evaluate(num_episodes=_NUM_EPISODES)
    _demand(
        result["evaluation/num_episodes"] == _NUM_EPISODES,
        f"evaluate(num_episodes={_NUM_EPISODES}) played {result['evaluation/num_episodes']} episodes.",
    )
    _check_equal([result], [first.evaluate(num_episodes=_NUM_EPISODES)], "Two evaluations with the same weights differ")
    after = [dict(policy.module.state_dict()) for policy in _policies(first)]
    for old, new in zip(weights, after, strict=True):
        _demand(all(bool((old[key] == new[key]).all()) for key in old), "evaluate() changed the weights.")
    kept = ("training_iteration", "env_steps", "env_runners/episode_return_mean")
    pair = [{key: algorithm.train()[key] for key in kept} for algorithm in (first, twin)]
    _check_equal(pair[:1], pair[1:], "Training goes on in another way after evaluate()")


def _policies(algorithm: Algorithm) -> list[Policy]:
    return list(algorithm.env_runner.policies.values())
