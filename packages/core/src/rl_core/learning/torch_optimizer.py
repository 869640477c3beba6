"""Optimizers and learning rate schedulers of torch behind the learner's interface."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rl_core.config.settings import LearnerSettings, TrainingSettings
from rl_core.errors import CheckpointError, ConfigError
from rl_core.learning.optimizer import BETAS, ClipBy


class TorchOptimizer:
    """One or several torch optimizers that together train all parameters, and their schedulers.

    The schedulers step after every optimiser step.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], learners: LearnerSettings, training: TrainingSettings
    ) -> None:
        """Call the user's functions.

        Args:
            parameters: To train, by name.
            learners: With `optimizer_fn` and `lr_scheduler_fns`.
            training: Handed to `optimizer_fn`; gives the learning rate to start from where that is None.

        Raises:
            ConfigError: a function returned something else, or forgot parameters; or `lr` is a schedule as well.
        """
        self.parameters = list(parameters.values())
        self.optimizers = _optimizers(parameters, learners, training)
        self.schedulers = [make(optimizer) for make in learners.lr_scheduler_fns for optimizer in self.optimizers]
        for scheduler in self.schedulers:
            if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                raise ConfigError(
                    "learners.lr_scheduler_fns: ReduceLROnPlateau waits for a figure, and none is known after an "
                    "optimiser step. Use a scheduler that counts steps, or training(target_kl=...) of PPO."
                )
        trained = {
            id(one) for optimizer in self.optimizers for group in optimizer.param_groups for one in group["params"]
        }
        forgotten = [name for name, parameter in parameters.items() if id(parameter) not in trained]
        if forgotten:
            raise ConfigError(
                f"learners.optimizer_fn: no optimizer has the parameters {forgotten}, so they would never be trained. "
                "Put them into one, or freeze them with requires_grad_(False)."
            )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", float(group["lr"]))  # as schedulers do
        self._made = [[dict(group) for group in optimizer.param_groups] for optimizer in self.optimizers]

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients of the parameters, zeros where a loss does not depend on one: other learners' may."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def clip(self, bound: float | None, by: ClipBy) -> float:
        """Bound the gradient in place and return its global norm before that (NaN or inf where it is not finite)."""
        grads = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norms = torch.stack(torch._foreach_norm(grads)) if grads else torch.zeros(1)
        norm = float(torch.linalg.vector_norm(norms))
        if bound is None or not grads or not math.isfinite(norm):
            return norm
        if by == "value":
            torch._foreach_clamp_min_(grads, -bound)
            torch._foreach_clamp_max_(grads, bound)
        elif by == "global_norm":
            torch._foreach_mul_(grads, min(1.0, bound / (norm + 1e-6)))
        else:
            for grad, part in zip(grads, norms.tolist(), strict=True):
                grad.mul_(min(1.0, bound / (part + 1e-6)))
        return norm

    def step(self, lr: float) -> float:
        """Step all optimizers and schedulers; return the learning rate that the first group had."""
        used = float(self.optimizers[0].param_groups[0]["lr"])
        for optimizer in self.optimizers:
            optimizer.step()
        for scheduler in self.schedulers:
            scheduler.step()
        return used

    def get_state(self) -> dict[str, Any]:
        """Return the state of all optimizers and schedulers, with string keys."""
        return {
            "optimizers": [_with_text_keys(optimizer.state_dict()) for optimizer in self.optimizers],
            "schedulers": [_with_text_keys(scheduler.state_dict()) for scheduler in self.schedulers],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave, but go on with the learning rates and epsilon of this run.

        Where a group began with another `initial_lr` than here, what its learning rate had become, and what schedulers
        remember of it, are multiplied by the new one over the old one; those that begin alike stay as they were saved.

        Raises:
            CheckpointError: it is of other optimizers.
        """
        try:
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(_with_number_keys(saved))
            for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
                scheduler.load_state_dict(_with_number_keys(saved))
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"The saved optimizers are others than those of this run: {error}.") from error
        for optimizer, made in zip(self.optimizers, self._made, strict=True):
            _begin_with(made, optimizer, self.schedulers)


def _optimizers(
    parameters: Mapping[str, nn.Parameter], learners: LearnerSettings, training: TrainingSettings
) -> list[torch.optim.Optimizer]:
    """Make the user's optimizers, or Adam for the user's schedulers."""
    if learners.optimizer_fn is None:
        if not isinstance(training.lr, float):
            raise ConfigError(
                f"lr: got the schedule {training.lr!r} together with learners.lr_scheduler_fns, expected one of the "
                "two. Give lr as the number to start from."
            )
        every = list(parameters.values())
        return [torch.optim.Adam(every, lr=training.lr, betas=BETAS, eps=training.adam_epsilon)]
    made = learners.optimizer_fn(parameters, training)
    optimizers = list(made) if isinstance(made, Sequence) else [made]
    for optimizer in optimizers:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ConfigError(
                f"learners.optimizer_fn returned {optimizer!r}, expected one or several torch optimizers."
            )
    if not optimizers:
        raise ConfigError("learners.optimizer_fn returned no optimizer.")
    return optimizers


def _begin_with(made: Sequence[Mapping[str, Any]], optimizer: torch.optim.Optimizer, schedulers: Iterable[Any]) -> None:
    """Scale a restored optimizer's learning rates to those that its groups were made with, and take their epsilon."""
    begins: list[tuple[float, float]] = []
    for group, own in zip(optimizer.param_groups, made, strict=True):
        begins.append((group["initial_lr"], own["initial_lr"]))
        group["lr"] = _scaled(group["lr"], *begins[-1])
        group |= {key: own[key] for key in ("initial_lr", "eps") if key in own}
    for scheduler in _innermost(schedulers):
        if scheduler.optimizer is optimizer:
            pairs = zip(scheduler.base_lrs, begins, strict=True)
            scheduler.base_lrs = [_scaled(lr, *begin) for lr, begin in pairs]


def _scaled(lr: float, old: float, new: float) -> float:
    """What a learning rate that began with `old` would be if it had begun with `new`."""
    if new == old:
        return lr
    return lr * (new / old) if old else new


def _innermost(schedulers: Iterable[Any]) -> Iterator[Any]:
    """Those of schedulers, and of the schedulers that they are made of, that remember learning rates."""
    for scheduler in schedulers:
        if hasattr(scheduler, "base_lrs"):
            yield scheduler
        yield from _innermost(getattr(scheduler, "_schedulers", ()))


def _with_number_keys(value: Any) -> Any:
    """Copy nested state and undo `_with_text_keys`."""
    if isinstance(value, Mapping):
        return {int(key) if key.isdigit() else key: _with_number_keys(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_number_keys(item) for item in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


def _with_text_keys(value: Any) -> Any:
    """Copy nested state with keys as text, as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_text_keys(item) for item in value]
    return value.clone() if isinstance(value, torch.Tensor) else value
