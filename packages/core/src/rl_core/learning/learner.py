"""The learner of on-policy algorithms: rollouts in, better weights out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from rl_core.config.check import Range
from rl_core.config.settings import Fraction, Positive, Schedule, TrainingSettings, check_schedule
from rl_core.errors import ConfigError, NonFiniteError
from rl_core.learning.backward import Backward
from rl_core.learning.learner_chain import LearnerChain, restore_connectors
from rl_core.learning.minibatch import minibatches
from rl_core.learning.optimizer import OptimizerFactory
from rl_core.learning.schedule import value_at
from rl_core.module.rl_module import RLModule
from rl_core.ops import losses
from rl_core.records import Batch, Rollout, Weights
from rl_core.tree import tree_leaves, tree_map

Metrics = dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MinibatchSettings(TrainingSettings):
    """What the learner reads of an algorithm's settings; the algorithm adds what its loss needs."""

    num_epochs: Positive = 10
    """Passes over each batch. Source: Schulman et al. 2017, table 3."""
    minibatch_size: Positive = 64
    """Samples per optimiser step; the batch is split evenly into minibatches of at most this many. Source: as above."""
    target_kl: Annotated[float, Range(gt=0)] | None = None
    """Stop the epochs of an update when the `kl` that the loss reports exceeds 1.5 times this; None never."""
    gradient_accumulation_steps: Positive = 1
    """Pieces that a minibatch is computed in, one after the other, to save memory: the gradient is the same."""

    def check(self) -> None:
        """Check the learning rate's schedule and that a minibatch fits into the batch."""
        check_schedule("lr", self.lr)
        if self.minibatch_size > self.train_batch_size_per_learner:
            raise ConfigError(
                f"minibatch_size: got {self.minibatch_size}, expected at most train_batch_size_per_learner, which is "
                f"{self.train_batch_size_per_learner}. Set both."
            )
        if self.gradient_accumulation_steps > self.minibatch_size:
            raise ConfigError(
                f"gradient_accumulation_steps: got {self.gradient_accumulation_steps}, expected at most "
                f"minibatch_size, which is {self.minibatch_size}."
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AdvantageSettings(MinibatchSettings):
    """What policy-gradient algorithms with an estimated value function share."""

    lambda_: Fraction = 0.95
    """GAE's trade of bias (0) for variance (1). Source: Schulman et al. 2017, table 3."""
    vf_loss_coeff: Annotated[float, Range(ge=0)] = 0.5
    """Weight of the value loss. Source: Huang et al. 2022, core detail 9."""
    entropy_coeff: Schedule = 0.0
    """Weight of the entropy bonus, constant or a schedule over env steps."""
    normalize_advantage: bool = True
    """Give the advantages of each minibatch mean 0 and standard deviation 1. Source: Huang et al. 2022, detail 7."""

    def check(self) -> None:
        """Check the schedules and that a minibatch fits into the batch."""
        MinibatchSettings.check(self)
        check_schedule("entropy_coeff", self.entropy_coeff)


V = TypeVar("V", bound=AdvantageSettings)


def read_schedules(settings: V, env_steps: int) -> V:
    """Read the schedules of learning rate and entropy coefficient."""
    if isinstance(settings.lr, float) and isinstance(settings.entropy_coeff, float):
        return settings
    return dataclasses.replace(
        settings, lr=value_at(settings.lr, env_steps), entropy_coeff=value_at(settings.entropy_coeff, env_steps)
    )


S = TypeVar("S", bound=MinibatchSettings)
R = TypeVar("R")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Objective(Generic[S]):
    """What an algorithm tells the learner: pure functions of module, data and settings."""

    prepare: Callable[[Any, Rollout, S], tuple[Batch, Metrics]]
    """Turn a rollout into samples, with figures about it."""
    loss: Callable[[Any, Batch, S], tuple[Tensor, Mapping[str, Tensor]]]
    """The scalar to minimise for one minibatch, and scalars to report; the same names each time."""
    settings_at: Callable[[S, int], S]
    """The settings with schedules read at a number of env steps."""
    adapt: Callable[[S, Metrics], S] | None = None
    """Settings for the next update after this one's figures, such as an adaptive KL coefficient."""
    adaptive: tuple[str, ...] = ()
    """Names of the settings that `adapt` changes; they are saved with the learner."""


class ModuleLearner(Protocol):
    """What checkpoints ask of the learner of one module."""

    @property
    def module(self) -> nn.Module:
        """What it trains."""

    on_update_end: Callable[[Any, Metrics], None] | None
    """Called with the learner and the figures of each update before they are returned; None saves that."""

    def weights(self) -> Weights:
        """Publish what acting needs of the module."""

    def get_state(self) -> dict[str, Any]:
        """Return everything else that the next update depends on; `learner_only` has the module's other tensors."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave."""


class Learner(Generic[S]):
    """Holds one module and its optimizer; the only place where weights change."""

    def __init__(
        self,
        module: RLModule,
        settings: S,
        objective: Objective[S],
        *,
        make_optimizer: OptimizerFactory,
        seed: int,
        name: str,
        connectors: LearnerChain | None = None,
    ) -> None:
        """Take ownership of the module.

        Args:
            module: Trained in place, on the device it is on.
            settings: Of the algorithm.
            objective: Of the algorithm.
            make_optimizer: From named parameters to their optimizer.
            seed: Of the minibatch orders.
            name: Id of the module, used in metric keys `learner/<name>/...`.
            connectors: What is done to each rollout first; None for nothing.

        Raises:
            ConfigError: a connector is for off-policy algorithms only.
        """
        if connectors is not None:
            connectors.require_on_policy()
        self.module = module
        self.connectors = connectors
        self.settings = settings
        self.objective = objective
        self.name = name
        self.backward = Backward(settings.precision, module)
        self.optimizer = make_optimizer(trainable(module))
        self.generator = torch.Generator().manual_seed(seed)
        self._published = acting_tensors(module)  # the optimizer works in place: they stay the same tensors
        self.version = 0
        self.env_steps = 0
        self.on_update_end: Callable[[Any, Metrics], None] | None = None

    @property
    def learners(self) -> dict[str, Learner[S]]:
        """This one, by its name."""
        return {self.name: self}

    def update(self, rollout: Rollout) -> Metrics:
        """Learn from one rollout.

        Returns:
            Means over the minibatches of what the loss reports, under `learner/<name>/...`.

        Raises:
            NonFiniteError: a loss or gradient became NaN or infinite; that step was not taken.
        """
        settings = self.objective.settings_at(self.settings, self.env_steps)
        rollout, connected = self._received(rollout)
        device = self.optimizer.parameters[0].device
        rollout = rollout if rollout.reward.device == device else to_device(rollout, device)
        backward, lr = self.backward, cast(float, settings.lr)
        with backward.autocast:
            batch, metrics = self.objective.prepare(self.module, rollout, settings)
        reports: list[Tensor] = []
        norms: list[float] = []
        report: Mapping[str, Tensor] = {}
        stopped = False
        is_plain = backward.is_plain and settings.gradient_accumulation_steps == 1
        num_epochs, size, peers = settings.num_epochs, settings.minibatch_size, backward.peers
        for minibatch in minibatches(batch, size=size, num_epochs=num_epochs, generator=self.generator, peers=peers):
            if is_plain:
                loss, report = self.objective.loss(self.module, minibatch, settings)
                if not losses.write_gradients(loss, self.optimizer.parameters):
                    self.optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
            else:
                self.optimizer.zero_grad()
                loss, report = backward.minibatch(self, minibatch, settings)
            reports += report.values()
            if settings.target_kl is not None and float(report["kl"]) > 1.5 * settings.target_kl:
                stopped = True
                break
            norm = self.optimizer.clip(settings.grad_clip, settings.grad_clip_by)
            if not math.isfinite(norm + loss.item()):
                if backward.overflowed():
                    continue
                raise NonFiniteError(_describe_failure(self.name, loss.item(), norm, minibatch))
            norms.append(norm)
            lr = self.optimizer.step(cast(float, settings.lr))
        if reports:  # of several learners one may have no samples; then none takes a step
            metrics |= dict(zip(report, torch.stack(reports).view(-1, len(report)).mean(0).tolist(), strict=True))
        metrics |= {
            "grad_norm": sum(norms) / max(len(norms), 1),
            "num_minibatches": float(len(norms)),
            "stopped_early": float(stopped),
            "lr": lr,
            "policy_age": float(self.version - rollout.policy_version),
            **connected,
        }
        self.version += 1
        self.env_steps += rollout.env_steps
        if self.objective.adapt is not None and reports:
            self.settings = self.objective.adapt(self.settings, metrics)
        result = {f"learner/{self.name}/{key}": value for key, value in metrics.items()}
        if self.on_update_end is not None:
            self.on_update_end(self, result)
        return result

    def _received(self, rollout: Rollout) -> tuple[Rollout, Metrics]:
        """Run the learner connectors, and return what they report as well."""
        return (rollout, {}) if self.connectors is None else self.connectors(rollout)

    def weights(self) -> Weights:
        """Publish what acting needs of the module: views of the tensors, not copies."""
        return Weights(version=self.version, tensors=self._published)

    def get_state(self) -> dict[str, Any]:
        """Return everything but the published weights that the next update depends on."""
        return {
            "learner_only": learner_only_tensors(self.module),
            "connectors": [] if self.connectors is None else self.connectors.get_state(),
            "optimizer": self.optimizer.get_state(),
            "backward": self.backward.get_state(),
            "generator": self.generator.get_state(),
            "version": self.version,
            "env_steps": self.env_steps,
            "adaptive": {name: getattr(self.settings, name) for name in self.objective.adaptive},
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave.

        Raises:
            CheckpointError: the optimiser's state does not fit this module, or the connectors' these connectors.
        """
        restore_connectors(self.connectors, state["connectors"])
        self.optimizer.set_state(state["optimizer"])
        self.backward.set_state(state["backward"])
        self.generator.set_state(state["generator"])
        self.version, self.env_steps = state["version"], state["env_steps"]
        self.settings = dataclasses.replace(self.settings, **state["adaptive"])


def trainable(module: RLModule) -> dict[str, nn.Parameter]:
    """The parameters of a module that get gradients, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def acting_tensors(module: RLModule) -> dict[str, Tensor]:
    """The parameters and buffers of the parts that are published, by name."""
    hidden = module.learner_only
    return {name: tensor for name, tensor in module.state_dict().items() if name.split(".")[0] not in hidden}


def learner_only_tensors(module: RLModule) -> dict[str, Tensor]:
    """The parameters and buffers of the parts that are not published, by name."""
    hidden = module.learner_only
    if not hidden:
        return {}
    return {name: tensor for name, tensor in module.state_dict().items() if name.split(".")[0] in hidden}


def to_device(record: R, device: torch.device) -> R:
    """Copy all tensors of a record to a device; what is not a tensor stays as it is."""

    def move(leaf: Any) -> Any:
        return leaf.to(device) if isinstance(leaf, Tensor) else leaf

    columns = {field.name: getattr(record, field.name) for field in dataclasses.fields(cast(Any, record))}
    columns = {name: dict(column) if isinstance(column, Mapping) else column for name, column in columns.items()}
    return type(record)(**{name: tree_map(move, column) for name, column in columns.items()})


def _describe_failure(name: str, loss: float, norm: float, batch: Batch) -> str:
    """Say which numbers went in when a loss or gradient came out non-finite."""
    lines = [
        f"Learner {name!r}: loss {loss:g} and gradient norm {norm:g} are not finite; the step was not taken and the "
        "weights are those before it. Minibatch statistics:"
    ]
    for field in dataclasses.fields(batch):
        for leaf in tree_leaves(getattr(batch, field.name)):
            if leaf is None:
                continue
            values = leaf.double()
            bad = int((~values.isfinite()).sum())
            lines.append(
                f"  {field.name}: shape {tuple(leaf.shape)}, min {values.min():.4g}, mean {values.mean():.4g}, "
                f"max {values.max():.4g}, {bad} not finite"
            )
    lines.append("Look for a column with values not finite or very large; lower lr, or normalise or clip that column.")
    return "\n".join(lines)
