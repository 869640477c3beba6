"""Frozen copies of policies, which a learning policy plays against."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rl_core import Policy, Weights
from rl_core.errors import ConfigError


def frozen_copy(policy: Policy) -> Policy:
    """Return a policy that stays as this one is now, with its connectors and their statistics."""
    copy = Policy(
        policy.spec,
        policy.observation_space,
        policy.action_space,
        obs_connectors=policy.obs_chain.pieces,
        action_connectors=policy.action_chain.pieces,
    )
    tensors = dict(policy.module.state_dict())
    copy.set_weights(Weights(version=policy.version, tensors=tensors, connector_state=policy.shared))
    return copy


class PolicyPool(Mapping[str, Policy]):
    """Frozen policies by id, in the order in which they came; each keeps the `version` it was frozen at.

    Example:
        >>> pool = PolicyPool()
        >>> pool.freeze("main", algorithm.env_runner.policies["main"])
        'main_v1'
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._policies: dict[str, Policy] = {}
        self._num_frozen: dict[str, int] = {}

    def freeze(self, name: str, policy: Policy) -> str:
        """Add a copy of a policy as it is now.

        Args:
            name: Of the policy.
            policy: To copy; it goes on learning by itself.

        Returns:
            The copy's id: the name with the number of the copy, such as `main_v1`. Numbers are never used again.

        Raises:
            ConfigError: a policy that was put in has that id.
        """
        number = self._num_frozen.get(name, 0) + 1
        self.put(f"{name}_v{number}", frozen_copy(policy))
        self._num_frozen[name] = number
        return f"{name}_v{number}"

    def put(self, policy_id: str, policy: Policy) -> None:
        """Add a policy that does not change, such as one that plays by rules or comes from a checkpoint.

        Raises:
            ConfigError: there is one of that id.
        """
        if policy_id in self._policies:
            raise ConfigError(f"PolicyPool: there is a policy {policy_id!r} already. Give this one another id.")
        self._policies[policy_id] = policy

    def remove(self, policy_id: str) -> None:
        """Take a policy out.

        Raises:
            KeyError: there is none of that id.
        """
        del self._policies[policy_id]

    def __getitem__(self, policy_id: str) -> Policy:
        return self._policies[policy_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._policies)

    def __len__(self) -> int:
        return len(self._policies)

    def get_state(self) -> dict[str, Any]:
        """Return the whole pool as a checkpoint component.

        Raises:
            ConfigError: a connector or module has no import path.
        """
        policies = {policy_id: policy.get_state() for policy_id, policy in self._policies.items()}
        return {"policies": policies, "num_frozen": dict(self._num_frozen)}

    def set_state(self, state: Mapping[str, Any], *, allow: Collection[str] = ()) -> None:
        """Take back what `get_state` gave.

        Args:
            state: From a checkpoint.
            allow: Top-level packages that it may import classes from, besides rl_core and what is imported already.

        Raises:
            CheckpointError: a policy is malformed.
            ConfigError: it names a class that may not be imported.
        """
        restored = {name: Policy.from_state(part, allow=allow) for name, part in state["policies"].items()}
        self._policies, self._num_frozen = restored, dict(state["num_frozen"])
