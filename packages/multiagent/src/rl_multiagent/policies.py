"""Policies that come, go, freeze and change places while a run is under way, on all runners at once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_core import Algorithm, Policy, Weights
from rl_core.checkpoint import Checkpoint
from rl_core.env.spaces import same_space, space_from_json
from rl_core.errors import CheckpointError, ConfigError
from rl_core.policy import load_tensors
from rl_multiagent.critic_learner import CRITIC
from rl_multiagent.extension import MultiAgent, PolicySpec
from rl_multiagent.mapping import PolicyMappingFn
from rl_multiagent.sampling.runner import MultiAgentRunner

Mapped = Mapping[str, str] | PolicyMappingFn | None


def add_policy(
    algorithm: Algorithm,
    name: str,
    spec: PolicySpec | None = None,
    *,
    weights: str | Policy | None = None,
    train: bool = False,
    policy_mapping_fn: Mapped = None,
) -> None:
    """Add a policy to a run; agents are mapped to it in episodes that begin from now on.

    Args:
        algorithm: With the extension `MultiAgent`.
        name: Id of the new policy.
        spec: What it has of its own; None takes that of the policy whose weights it gets, if there is one.
        weights: Id of a policy of this run, or a policy, to copy the weights and statistics of; None begins anew.
        train: Let it learn; otherwise it stays as it is.
        policy_mapping_fn: The mapping from now on; None keeps the present one.

    Raises:
        ConfigError: there is a policy of this name, or weights or mapping do not fit.
    """
    extension = _extension_of(algorithm)
    if name in extension.specs:
        raise ConfigError(f"add_policy: there is a policy {name!r} already. Choose another name, or remove it first.")
    if spec is None:
        spec = extension.specs[weights] if isinstance(weights, str) else PolicySpec()
    trained = (*_trained(algorithm), name) if train else _trained(algorithm)
    source = algorithm.env_runner.policies[weights] if isinstance(weights, str) else weights
    _change(
        algorithm,
        policies={**extension.specs, name: spec},
        policies_to_train=trained,
        policy_mapping_fn=policy_mapping_fn or extension.policy_mapping_fn,
        weights={name: source} if source is not None else {},
    )


def remove_policy(algorithm: Algorithm, name: str, *, policy_mapping_fn: Mapped = None) -> None:
    """Remove a policy from a run.

    Args:
        algorithm: With the extension `MultiAgent`.
        name: Id of the policy.
        policy_mapping_fn: The mapping from now on; None keeps the present one.

    Raises:
        ConfigError: there is no such policy, or it plays an agent in an episode under way.
    """
    extension = _extension_of(algorithm)
    if name not in extension.specs:
        raise ConfigError(f"remove_policy: there is no policy {name!r}, only {', '.join(extension.specs)}.")
    _change(
        algorithm,
        policies={other: spec for other, spec in extension.specs.items() if other != name},
        policies_to_train=tuple(other for other in _trained(algorithm) if other != name),
        policy_mapping_fn=policy_mapping_fn or extension.policy_mapping_fn,
    )


def map_agents(algorithm: Algorithm, policy_mapping_fn: Mapping[str, str] | PolicyMappingFn) -> None:
    """Map agents to policies otherwise, in episodes that begin from now on."""
    _change(algorithm, policy_mapping_fn=policy_mapping_fn)


def train_policies(algorithm: Algorithm, names: Sequence[str]) -> None:
    """Let exactly these policies learn from now on; one that begins to learn has a new optimizer."""
    _change(algorithm, policies_to_train=tuple(names))


def restart_policy(algorithm: Algorithm, name: str) -> None:
    """Let a policy that learns begin anew: with its first weights and statistics and a new optimizer.

    Raises:
        ConfigError: no such policy learns.
    """
    extension, trained = _extension_of(algorithm), _trained(algorithm)
    if name not in trained:
        raise ConfigError(f"restart_policy: no policy {name!r} learns, only {', '.join(trained) or 'none'}.")
    layout = algorithm.env_runner.layout
    mapper = extension.make_mapper(layout, seed=0)  # the policy's spaces do not depend on the seed
    _change(algorithm, weights={name: extension.make_policy(name, algorithm.config, mapper, layout)}, anew=(name,))


def load_policy(algorithm: Algorithm, name: str, path: str | Path, saved_name: str | None = None) -> None:
    """Give a policy of a run the weights and statistics of one in a checkpoint; all others stay as they are.

    If it learns here and learned there, its value function comes along. Its optimizer is a new one.

    Args:
        algorithm: With the extension `MultiAgent`.
        name: Id of the policy in this run.
        path: Checkpoint directory of any run, also of one with a single agent, whose policy is called `"default"`.
        saved_name: Id of the policy there; None for the same.

    Raises:
        ConfigError: there is no such policy in this run.
        CheckpointError: there is none in the checkpoint, the checkpoint is damaged, or the policy does not fit.
    """
    extension = _extension_of(algorithm)
    if name not in extension.specs:
        raise ConfigError(f"load_policy: there is no policy {name!r}, only {', '.join(extension.specs)}.")
    checkpoint, saved_name = Checkpoint(path), saved_name or name
    checkpoint.verify()
    saved, policy = checkpoint.load(f"policies/{saved_name}"), algorithm.env_runner.policies[name]
    for what in ("observation_space", "action_space"):
        difference = same_space(getattr(policy, what), space_from_json(saved[what]))
        if difference:
            raise CheckpointError(
                f"load_policy: the {what.replace('_', ' ')} of policy {saved_name!r} in {path} is not that of {name!r} "
                f"in this run: {difference}."
            )
    policy.check_connectors(saved)
    statistics = tuple(saved["connector_state"])
    policy.obs_chain.check_shared(statistics)
    weights = Weights(version=0, tensors=saved["tensors"], connector_state=statistics)
    for runner in algorithm.runners:
        runner.set_weights({name: weights})
    if name in _trained(algorithm):
        _change(algorithm, anew=(name,))
        learner = algorithm.learner.learners[name]
        if f"learners/{saved_name}" in checkpoint.components():
            hidden = checkpoint.load(f"learners/{saved_name}")["learner_only"]
            load_tensors(learner.module, {**saved["tensors"], **hidden}, what=f"policy {saved_name!r}")
            learner.set_state(learner.get_state())  # in other processes it is given what its module was given


def _extension_of(algorithm: Algorithm) -> MultiAgent:
    """Find the extension in the algorithm's config."""
    for extension in algorithm.config.extensions:
        if isinstance(extension, MultiAgent):
            return extension
    raise ConfigError("This run has one policy. Build it with config.use(MultiAgent(...)).")


def _trained(algorithm: Algorithm) -> tuple[str, ...]:
    """Ids of the policies that learn now."""
    return tuple(name for name in algorithm.learner.learners if name != CRITIC)


def _change(
    algorithm: Algorithm,
    *,
    weights: Mapping[str, Policy] | None = None,
    anew: Collection[str] = (),
    **changes: Any,
) -> None:
    """Replace fields of the extension, and make runners and learners as it says from then on.

    Args:
        algorithm: With the extension.
        weights: Policies to copy weights and statistics of, by the id of who gets them.
        anew: Ids of policies whose learners are made again.
        changes: Of the extension's fields.
    """
    before = _extension_of(algorithm)
    after = dataclasses.replace(before, **changes)
    config = algorithm.config

    def change_runner(runner: MultiAgentRunner) -> None:
        layout = runner.layout
        mapper = after.make_mapper(layout, seed=runner.mapper.seed)
        policies = {
            name: runner.policies.get(name) or after.make_policy(name, config, mapper, layout) for name in after.specs
        }
        runner.change(policies, mapper, after.judged_together(config))
        runner.set_weights(
            {
                name: Weights(version=source.version, tensors=source.module.state_dict(), connector_state=source.shared)
                for name, source in (weights or {}).items()
            }
        )

    algorithm.foreach_env_runner(change_runner)
    config.extensions = tuple(after if extension is before else extension for extension in config.extensions)
    for runner in algorithm.runners:
        runner.reread(config)
    algorithm.change_learner(functools.partial(after.change_learner, anew=anew))
