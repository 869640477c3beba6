"""What of a run is saved besides its counters, and whether it fits another run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rl_core.algorithm.components import Updater
from rl_core.algorithm.config import AlgorithmConfig
from rl_core.algorithm.registry import algorithms
from rl_core.env.spaces import same_space, space_from_json
from rl_core.errors import CheckpointError
from rl_core.policy import load_tensors
from rl_core.records import Weights
from rl_core.sampling.protocol import Runner


def get_run_state(runner: Runner, updater: Updater) -> dict[str, Any]:
    """Return the state of policies, learners and runners, by component."""
    learners = updater.learners
    # Learners may be ahead of what a training step of the user's published.
    newest = {name: learner.weights() for name, learner in learners.items() if name in runner.policies}
    return {
        **{f"policies/{name}": policy.get_state(newest.get(name)) for name, policy in runner.policies.items()},
        **{f"learners/{name}": learner.get_state() for name, learner in learners.items()},
        **{f"runners/{place}": state for place, state in enumerate(runner.get_states())},
    }


def set_run_state(runner: Runner, updater: Updater, state: Mapping[str, Any]) -> None:
    """Let policies, learners and runners go on from what `get_run_state` gave.

    Raises:
        CheckpointError: something does not fit.
    """
    for name, policy in runner.policies.items():
        load_tensors(policy.module, state[f"policies/{name}"]["tensors"], what=f"policy {name!r}")
    for name, learner in updater.learners.items():
        own, published = state[f"learners/{name}"], state.get(f"policies/{name}", {}).get("tensors", {})
        what = f"policy {name!r}" if published else f"learner {name!r}"
        load_tensors(learner.module, published | own["learner_only"], what=what)
        learner.set_state(own)
    places = sorted(int(name.removeprefix("runners/")) for name in state if name.startswith("runners/"))
    runner.set_states([state[f"runners/{place}"] for place in places])
    _set_statistics(runner, {name: state[f"policies/{name}"]["connector_state"] for name in runner.policies})
    runner.set_weights(updater.weights())


def _set_statistics(runner: Runner, statistics: Mapping[str, Any]) -> None:
    """Give all runners what the connectors of all of them had gathered together."""
    weights = runner.get_weights()
    if isinstance(weights, Weights):
        runner.set_weights(replace(weights, connector_state=tuple(statistics["default"])))
        return
    parts = {name: replace(part, connector_state=tuple(statistics[name])) for name, part in weights.items()}
    runner.set_weights(parts)


def check_algorithm(config: AlgorithmConfig, saved: Mapping[str, Any]) -> None:
    """Refuse the checkpoint of another algorithm; it may be of any config derived from this one's.

    Raises:
        CheckpointError: names both.
    """
    kinds = {import_name: name for name, import_name in algorithms().items()}
    name = kinds.get(str(saved.get("config")), config.name)
    if name != config.name:
        raise CheckpointError(
            f"The checkpoint is of the algorithm {name!r}, this run is of {config.name!r}. Restore it with "
            "Algorithm.from_checkpoint, or take its policies alone with Policy.from_checkpoint."
        )


def check_fit(runner: Runner, updater: Updater, state: Mapping[str, Any]) -> None:
    """Compare ids and spaces of a checkpoint with those of a run.

    Raises:
        CheckpointError: names the first that differs.
    """
    own = runner.policies
    policies = {name.removeprefix("policies/"): part for name, part in state.items() if name.startswith("policies/")}
    learners = {name.removeprefix("learners/") for name in state if name.startswith("learners/")}
    if set(own) != set(policies) or set(updater.learners) != learners:
        raise CheckpointError(f"The checkpoint has the policies {sorted(policies)}, this run has {sorted(own)}.")
    for name, policy in own.items():
        for what in ("observation_space", "action_space"):
            saved = space_from_json(policies[name][what])
            difference = same_space(getattr(policy, what), saved)
            if difference:
                raise CheckpointError(
                    f"The checkpoint is of another env: the {what.replace('_', ' ')} of policy {name!r} differs: "
                    f"{difference}. Restore it with the env it was trained on."
                )
        policy.check_connectors(policies[name])
