"""What an env runner needs of a batch of environments."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from gymnasium.spaces import Space

from rl_core.records import Step

Tree = Any


@runtime_checkable
class VectorEnv(Protocol):
    """B env slots that are stepped together and start a new episode by themselves when one ends."""

    num_envs: int
    """B, the number of slots."""
    observation_space: Space[Any]
    """Of a single slot."""
    action_space: Space[Any]
    """Of a single slot."""
    num_restarts: int
    """Envs so far that failed and were made anew."""

    def reset(self, seed: int | None = None) -> Step:
        """Start a new episode in every slot.

        Args:
            seed: Seeds every slot differently; None goes on with the random state each slot has.
        """

    def step(self, action: Tree) -> Step:
        """Act in every slot.

        Args:
            action: Arrays `[B, ...]` in the structure of `action_space`.

        Returns:
            What followed. `Step.obs` may be the env's own buffer, valid until the next call: copy what you keep.
        """

    def close(self) -> None:
        """Release what the env holds; calling it twice is fine."""

    def get_state(self) -> dict[str, Any] | None:
        """The exact state as nested dicts and lists of arrays and JSON data, or None if it cannot be captured."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where `get_state` was called, on an env made in the same way.

        Raises:
            CheckpointError: If the state does not fit; the env is then as it was, and should be reset.
        """

    def render(self) -> tuple[Any, ...] | None:
        """One frame per slot, or None if the env was made without a render mode."""
