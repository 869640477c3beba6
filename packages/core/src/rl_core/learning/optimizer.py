"""Adam over one flat buffer of all parameters.

A module of PPO's usual size has a dozen small tensors; updating, clipping and clearing them one by one is mostly
overhead. Here parameters and gradients are views of two flat tensors, so each of these is one operation. It also
keeps `torch.optim` out of start-up: the first optimiser made there imports `torch._dynamo`, which takes seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from rl_core.config.settings import LearnerSettings, TrainingSettings
from rl_core.errors import CheckpointError, ConfigError

ClipBy = Literal["global_norm", "norm", "value"]


class Optimizer(Protocol):
    """What a learner asks of an optimizer."""

    parameters: list[nn.Parameter]
    """What it trains."""

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients of all parameters, in as few tensors as there are; to be changed in place."""

    def zero_grad(self) -> None:
        """Clear the gradients."""

    def clip(self, bound: float | None, by: ClipBy) -> float:
        """Bound the gradient and return its global norm before that (NaN or inf where it is not finite)."""

    def step(self, lr: float) -> float:
        """Apply one update and return the learning rate it had: `lr`, or the optimizer's own."""

    def get_state(self) -> dict[str, Any]:
        """Return what the next step depends on."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave."""


OptimizerFactory = Callable[[Mapping[str, nn.Parameter]], Optimizer]
"""Makes the optimizer of parameters by name."""


def optimizer_factory(learners: LearnerSettings, training: TrainingSettings) -> OptimizerFactory:
    """Return what makes the optimizers of a learner: `FlatAdam`, or torch's where the settings name functions.

    Raises:
        ConfigError: torch's optimizers are to train weights in half precision.
    """
    if learners.optimizer_fn is None and not learners.lr_scheduler_fns:
        return lambda parameters: FlatAdam(parameters, epsilon=training.adam_epsilon)
    if training.precision.endswith("-true"):
        named = "optimizer_fn" if learners.optimizer_fn is not None else "lr_scheduler_fns"
        raise ConfigError(
            f"training.precision: got {training.precision!r} together with learners.{named}, expected one of the two: "
            "torch's optimizers keep no copy in float32 of weights in half precision, which most steps are too small "
            f"for. Set precision={training.precision.replace('-true', '-mixed')!r}, or leave {named} out."
        )
    from rl_core.learning.torch_optimizer import TorchOptimizer  # torch.optim takes seconds to import

    return lambda parameters: TorchOptimizer(parameters, learners, training)


BETAS = (0.9, 0.999)
"""Decay of the running means of gradient and squared gradient. Source: Kingma and Ba 2015."""


class FlatAdam:
    """Adam with gradient clipping, for parameters of one dtype and device.

    After construction `parameter.data` and `parameter.grad` of each trainable parameter are views of flat buffers. Of
    parameters in half precision it keeps what they are rounded by: most steps are too small for them.

    Source: Kingma and Ba 2015, algorithm 1; agrees with `torch.optim.Adam`.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, epsilon: float) -> None:
        """Move the parameters into one buffer.

        Args:
            parameters: By name; the module that owns them keeps them, and their values do not change.
            epsilon: Added to the denominator.

        Raises:
            ValueError: nothing to train, or parameters of several dtypes or devices.
        """
        self.parameters = list(parameters.values())
        kinds = {(parameter.dtype, parameter.device) for parameter in self.parameters}
        if len(kinds) != 1:
            what = "no trainable parameters" if not kinds else f"parameters of several kinds: {sorted(map(str, kinds))}"
            raise ValueError(f"Adam got {what}; it needs all of one dtype and device.")
        self.epsilon = epsilon
        self.flat = torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])
        self.grad = torch.zeros_like(self.flat)
        self.is_half = self.flat.dtype in (torch.bfloat16, torch.float16)
        wide = torch.float32 if self.is_half else self.flat.dtype
        self.mean = torch.zeros_like(self.flat, dtype=wide)
        self.mean_square = torch.zeros_like(self.mean)
        self.rounded_by = torch.zeros_like(self.mean) if self.is_half else self.mean.new_zeros(0)
        self.num_steps = torch.zeros((), dtype=torch.float32, device=self.flat.device)
        self._bind()

    def _bind(self) -> None:
        """Make each parameter and its gradient a view of the flat buffers."""
        sizes = [parameter.numel() for parameter in self.parameters]
        views = zip(self.parameters, torch.split(self.flat, sizes), torch.split(self.grad, sizes), strict=True)
        for parameter, value, grad in views:
            parameter.data = value.view(parameter.shape)
            parameter.grad = grad.view(parameter.shape)

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients of all parameters, as one tensor."""
        return [self.grad]

    def zero_grad(self) -> None:
        """Clear the gradients in place."""
        self.grad.zero_()

    def clip(self, bound: float | None, by: ClipBy) -> float:
        """Bound the gradient in place and return its global norm before that (NaN or inf where it is not finite)."""
        norm = float(torch.linalg.vector_norm(self.grad, dtype=self.mean.dtype))
        if bound is None or not math.isfinite(norm):
            return norm
        if by == "value":
            self.grad.clamp_(-bound, bound)
        elif by == "global_norm":
            if norm > bound:
                self.grad.mul_(bound / (norm + 1e-6))
        else:
            for parameter in self.parameters:
                assert parameter.grad is not None
                part = float(torch.linalg.vector_norm(parameter.grad))
                if part > bound:
                    parameter.grad.mul_(bound / (part + 1e-6))
        return norm

    def step(self, lr: float) -> float:
        """Apply one update with learning rate `lr`, and return that."""
        self.num_steps += 1
        exact = self.flat.float().add_(self.rounded_by) if self.is_half else self.flat
        torch._fused_adam_(
            [exact],
            [self.grad.float() if self.is_half else self.grad],
            [self.mean],
            [self.mean_square],
            [],
            [self.num_steps],
            lr=lr,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
        )
        if self.is_half:
            self.flat.copy_(exact)
            torch.sub(exact, self.flat, out=self.rounded_by)
        return lr

    def get_state(self) -> dict[str, Any]:
        """Return the running means, the step count, and what parameters in half precision are rounded by."""
        return {name: getattr(self, name).clone() for name in ("mean", "mean_square", "num_steps", "rounded_by")}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave, of parameters in whatever precision.

        Raises:
            CheckpointError: the state is of a module with another number of parameters.
        """
        names = ("mean", "mean_square", "num_steps")
        for name in names:
            own, given = getattr(self, name), state.get(name)
            if given is None or given.shape != own.shape:
                shape = "nothing" if given is None else tuple(given.shape)
                raise CheckpointError(f"Optimiser state {name!r}: got {shape}, expected {tuple(own.shape)}.")
        for name in names:
            getattr(self, name).copy_(state[name])
        if self.is_half:
            given = state["rounded_by"]
            self.rounded_by.copy_(given) if len(given) else self.rounded_by.zero_()
