"""From losses to gradients: in full, mixed or half precision, alone or together with other learners."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch import Tensor, nn

from rl_core.config.settings import Precision
from rl_core.learning.minibatch import pieces_of
from rl_core.module.half import HALF
from rl_core.records import Batch

if TYPE_CHECKING:
    from rl_core.learning.learner import Learner, MinibatchSettings
    from rl_core.learning.optimizer import Optimizer
    from rl_core.learning.peers import Peers

FIRST_SCALE: Final = 2.0**16
"""Factor of float16's losses to begin with. Source: Micikevicius et al. 2018, section 3.2."""
GROWTH_INTERVAL: Final = 2000
"""Steps without overflow after which the factor is doubled. Source: NVIDIA's guide to mixed precision."""


class Backward:
    """Takes the losses of one module to the gradients of its optimizers.

    In mixed precision matrix products are computed in half precision from weights in float32. In true half precision
    the weights are in it, too, and only the optimizer keeps them in float32. float16 has few exponents, so losses are
    multiplied by a factor that is halved whenever a gradient overflows, which skips that step, and doubled after many
    steps without.
    """

    def __init__(self, precision: Precision, module: nn.Module) -> None:
        """Bring the module's weights into the precision.

        Args:
            precision: The setting.
            module: To be trained.
        """
        kind, _, how = precision.partition("-")
        dtype = HALF.get(kind)
        if how == "true":
            module.to(dtype)
        self.autocast: AbstractContextManager[Any] = nullcontext()
        """Where losses, and what they depend on, are computed."""
        if dtype is not None:
            self.autocast = torch.autocast(next(module.parameters()).device.type, dtype)
        self.scale = FIRST_SCALE if dtype == torch.float16 else 1.0
        self._num_good = 0
        self.peers: Peers | None = None
        """The learners of the same module in other processes; None if there are none."""
        self.is_plain = dtype is None
        """Whether a loss's own gradient is all there is to it."""

    def join(self, peers: Peers) -> None:
        """Learn together with the learners of the same module in other processes from now on."""
        self.peers = peers
        self.is_plain = False

    def __call__(self, loss: Tensor, weight: float = 1.0, *, inputs: Sequence[nn.Parameter] | None = None) -> None:
        """Add the gradients of a loss, times its weight, to those of the inputs; None is of all that it depends on."""
        factor = weight * self.scale
        (loss if factor == 1.0 else loss * factor).backward(inputs=inputs)  # type: ignore[no-untyped-call]

    def finish(self, *optimizers: Optimizer) -> None:
        """Turn what the parameters of a step's optimizers have gathered into gradients of mean losses of all learners.

        All optimizers of the step at once: their losses were multiplied by the same factor.
        """
        for optimizer in optimizers:
            if self.peers is not None:
                self.peers.average(optimizer.gradients)
            if self.scale != 1.0:
                torch._foreach_mul_(optimizer.gradients, 1.0 / self.scale)
        if self.scale != 1.0:
            self._num_good += 1
            if self._num_good >= GROWTH_INTERVAL:
                self.scale, self._num_good = self.scale * 2.0, 0

    def overflowed(self) -> bool:
        """Take note of gradients that are not finite: whether to leave out the step with a smaller factor and go on."""
        if self.scale <= 1.0:
            return False
        self.scale, self._num_good = self.scale / 2.0, 0
        return True

    def minibatch(
        self, learner: Learner[Any], minibatch: Batch, settings: MinibatchSettings
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Give a learner's optimizer the gradient of a minibatch, computed in pieces.

        Args:
            learner: Alone, or one of those whose minibatches make up a large one.
            minibatch: Its own.
            settings: With schedules read.

        Returns:
            Means over the samples of all learners: the loss, and what it reports.
        """
        num_samples, peers = len(minibatch.advantage), self.peers
        if getattr(settings, "normalize_advantage", False):  # over all learners and pieces, not in the loss of each
            settings = dataclasses.replace(cast(Any, settings), normalize_advantage=False)
            if peers is not None or num_samples > 1:
                advantage = minibatch.advantage
                std, mean = torch.std_mean(advantage) if peers is None else peers.std_mean(advantage)
                minibatch = dataclasses.replace(minibatch, advantage=(advantage - mean) / (std + 1e-8))
        weight = 1.0 if peers is None else peers.weight(num_samples)
        figures: list[Tensor] = []
        names: tuple[str, ...] = ()
        for piece in pieces_of(minibatch, settings.gradient_accumulation_steps):
            with self.autocast:
                loss, report = learner.objective.loss(learner.module, piece, settings)
            share = weight * len(piece.advantage) / num_samples
            self(loss, share)
            names = tuple(report)
            figures.append(torch.stack((loss.detach(), *report.values())).float() * share)
        self.finish(learner.optimizer)
        means = torch.stack(figures).sum(0)
        if peers is not None:
            peers.average([means])
        return means[0], dict(zip(names, means[1:], strict=True))

    def get_state(self) -> dict[str, float]:
        """Return the factor, and what decides when it grows."""
        return {"scale": self.scale, "num_good": self._num_good}

    def set_state(self, state: Mapping[str, float]) -> None:
        """Take back what `get_state` gave; a factor only where this precision needs one."""
        if self.scale != 1.0 and state["scale"] != 1.0:
            self.scale, self._num_good = state["scale"], int(state["num_good"])
