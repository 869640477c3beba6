"""Learner connectors: what may change a rollout between sampling and learning, such as intrinsic rewards."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from rl_core.config.codec import Storable
from rl_core.env.spaces import Space
from rl_core.errors import NonFiniteError
from rl_core.learning.optimizer import FlatAdam
from rl_core.records import Rollout, Tree


class LearnerConnector(Storable, ABC):
    """Changes a rollout before it is learned from. Derive a frozen dataclass and write `__call__`.

    It gets observations as they are before the trailing connectors that the learner can rebuild (flattening, frame
    stacking): the number of a state, say, and not its one-hot vector.

    Each rollout passes through once. What a replay buffer stores is what came out: an intrinsic reward stays as it was
    when the step was taken, until the step is overwritten, so the buffer's capacity bounds how old it may be.

    Example:
        >>> @dataclass(frozen=True)
        ... class Bonus(LearnerConnector):
        ...     size: float = 0.1
        ...     def __call__(self, state, rollout):
        ...         return state, replace(rollout, reward=rollout.reward + self.size), {}
    """

    __slots__ = ()

    off_policy_only: ClassVar[bool] = False
    """Whether what it makes of a rollout no longer has the action distributions it was sampled with."""

    def bind(self, observation_space: Space, action_space: Space) -> LearnerConnector:
        """Return a copy that knows the spaces of the rollouts it gets.

        Things worked out here are dataclass fields with `init=False`; only the others are settings and are stored.

        Args:
            observation_space: Of the observations in the rollouts.
            action_space: The module's.

        Raises:
            UnsupportedSpaceError: it cannot work on them.
        """
        return self

    def initial_state(self, seed: int) -> Tree:
        """Make what it remembers: a dict of tensors, numpy arrays, plain numbers and `Trained` networks."""
        return {}

    @abstractmethod
    def __call__(self, state: Tree, rollout: Rollout) -> tuple[Tree, Rollout, Mapping[str, float]]:
        """Transform a rollout, whose tensors are not to be changed in place.

        Returns:
            The state after it, the rollout, and figures to report, the same names each time.
        """


class Trained:
    """A network that only a learner connector uses, with a loss and an optimizer of its own.

    It is the one part of a connector's state that changes in place.

    Example:
        >>> part = Trained(nn.Linear(4, 2), lr=1e-3)
        >>> part.minimise(part.module(obs).square().mean())
    """

    def __init__(self, module: nn.Module, *, lr: float) -> None:
        """Take ownership of the module.

        Args:
            module: Trained in place by Adam; parameters that need no gradient stay as they are.
            lr: Learning rate, above 0.
        """
        self.module = module
        self.lr = lr
        parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self._optimizer = FlatAdam(parameters, epsilon=1e-8)

    def minimise(self, loss: Tensor) -> None:
        """Do one gradient step.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite; the step was not taken.
        """
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = self._optimizer.clip(None, "global_norm")
        if not math.isfinite(norm + loss.item()):
            raise NonFiniteError(
                f"{type(self.module).__name__} of a learner connector: loss {loss.item():g} and gradient norm {norm:g} "
                "are not finite; that step was not taken. Lower its learning rate, or normalise the observations."
            )
        self._optimizer.step(self.lr)

    def get_state(self) -> dict[str, Any]:
        """Return weights and optimizer state."""
        return {"tensors": dict(self.module.state_dict()), "optimizer": self._optimizer.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave.

        Raises:
            RuntimeError: it is of another network.
        """
        self.module.load_state_dict(dict(state["tensors"]))
        self._optimizer.set_state(state["optimizer"])
