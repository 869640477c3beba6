"""The learner of off-policy algorithms: rollouts into a replay buffer, gradient steps out of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from rl_core.errors import ConfigError, NonFiniteError
from rl_core.learning.backward import Backward
from rl_core.learning.learner import Metrics, acting_tensors, learner_only_tensors, to_device, trainable
from rl_core.learning.learner_chain import LearnerChain, restore_connectors
from rl_core.learning.optimizer import Optimizer, OptimizerFactory
from rl_core.learning.replay_settings import ReplaySettings
from rl_core.learning.schedule import value_at
from rl_core.learning.slow_copies import SlowCopies
from rl_core.module.rl_module import RLModule
from rl_core.records import Rollout, Weights
from rl_core.replay.buffer import ReplayBuffer
from rl_core.replay.priorities import PrioritySettings
from rl_core.replay.records import Sequences, Transitions

S = TypeVar("S", bound=ReplaySettings)


class Losses(NamedTuple):
    """What an off-policy algorithm makes of one batch."""

    by_group: Mapping[str, Tensor]
    """The scalar to minimise for each group of parameters. A group left out is not trained this time, and the targets
    wait until all groups are."""
    report: Mapping[str, Tensor]
    """Scalars to report, by names of the objective's `report`; one that is not known this time may be left out."""
    td_error: Tensor | None = None
    """`[N]`, or `[S]` for sequences: the new priorities of what was drawn; None keeps the old ones."""


class Draw(NamedTuple):
    """What a loss may depend on besides module, batch and settings."""

    generator: torch.Generator
    """Source of its noise."""
    step: int
    """Gradient steps before this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parameters with a loss and an optimizer of their own."""

    parts: tuple[str, ...]
    """Names of the module's direct parts, submodules or parameters."""
    lr: str = "lr"
    """Setting with its learning rate, a number or schedule; where that is None, `lr` holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayObjective(Generic[S]):
    """What an off-policy algorithm tells the learner."""

    groups: Mapping[str, Group]
    """By name; together they hold all parameters of the module."""
    targets: tuple[str, ...]
    """Names of the module's parts that have a slowly following copy, the target network."""
    losses: Callable[[Any, Mapping[str, Any], Any, S, Draw], Losses]
    """`losses(module, targets, batch, settings, draw)`, all at the same weights; the batch is `Transitions`, or
    `Sequences` for a recurrent module."""
    report: tuple[str, ...]
    """Names of what the losses report, so that results have them before learning starts."""
    explore: Callable[[Any, S, int], None] | None = None
    """`explore(module, settings, env_steps)` sets buffers of the module that decide how it explores."""


class ReplayLearner(Generic[S]):
    """Holds one module, its target networks, optimizers and replay buffer."""

    def __init__(
        self,
        module: RLModule,
        settings: S,
        objective: ReplayObjective[S],
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
            make_optimizer: From named parameters to their optimizer; called once per group.
            seed: Of what is drawn from the buffer and of the losses' noise.
            name: Id of the module, used in metric keys `learner/<name>/...`.
            connectors: What is done to each rollout first; None for nothing.
        """
        self.module = module
        self.connectors = connectors
        self._connected: Metrics = {}
        self.settings = settings
        self.objective = objective
        self.name = name
        self.backward = Backward(settings.precision, module)
        parameters = trainable(module)
        _check_parts(module, objective, parameters)
        self.optimizers: dict[str, Optimizer] = {
            group: make_optimizer({key: value for key, value in parameters.items() if key.split(".")[0] in part.parts})
            for group, part in objective.groups.items()
        }
        self._slow = SlowCopies[nn.Module]({part: getattr(module, part) for part in objective.targets})
        self.targets = self._slow.modules
        self._is_recurrent = module.is_recurrent
        self.generator = torch.Generator().manual_seed(seed)
        self.buffer: ReplayBuffer | None = None
        self._published = acting_tensors(module)  # the optimizer works in place: they stay the same tensors
        self.version = 0
        self.env_steps = 0
        self.num_gradient_steps = 0
        self._num_stored = 0
        self._age = 0
        self._due = 0.0
        self._target_due = 0.0
        self._metric_names = (*objective.report, *(f"grad_norm_{group}" for group in objective.groups))
        self.on_update_end: Callable[[Any, Metrics], None] | None = None
        self._explore()

    @property
    def learners(self) -> dict[str, ReplayLearner[S]]:
        """This one, by its name."""
        return {self.name: self}

    def update(self, rollout: Rollout) -> Metrics:
        """Store one rollout and do the gradient steps that are due.

        Returns:
            Means over the gradient steps of what the losses report, under `learner/<name>/...`; NaN if none was due.

        Raises:
            NonFiniteError: a loss or gradient became NaN or infinite; that step was not taken.
            ConfigError: the buffer does not fit into memory.
        """
        self.store(rollout)
        return self.learn()

    def store(self, rollout: Rollout) -> None:
        """Put one rollout into the buffer and count the gradient steps that it makes due.

        Raises:
            ConfigError: the buffer does not fit into memory.
        """
        if self.connectors is not None:
            rollout, self._connected = self.connectors(rollout)
        num_slots = rollout.reward.shape[1]
        if self.buffer is not None and self.buffer.num_slots != num_slots:
            warnings.warn(
                f"Learner {self.name!r}: rollouts have {num_slots} env slots now instead of {self.buffer.num_slots}, "
                f"for which the replay buffer was made: it begins anew, without its {len(self.buffer):,} transitions.",
                stacklevel=2,
            )
            self.buffer, self._num_stored, self._due = None, 0, 0.0
        if self.buffer is None:  # an empty one counts as false
            self.buffer = self._make_buffer(num_slots)
        self.buffer.add(rollout)
        self.env_steps += rollout.env_steps
        self._num_stored += rollout.env_steps
        if self._num_stored >= self.settings.num_steps_sampled_before_learning_starts:
            self._due += rollout.env_steps
        self._age = self.version - rollout.policy_version

    def learn(self) -> Metrics:
        """Do the gradient steps that are due; see `update`."""
        buffer, peers, num_due = self.buffer, self.backward.peers, 0
        while buffer and self._due >= self.settings.env_steps_per_gradient_step:
            self._due -= self.settings.env_steps_per_gradient_step
            num_due += 1
        if peers is not None:  # a step that one of them has no data for is taken by none
            num_due = peers.smallest(num_due)
        reports = [] if buffer is None else [self._gradient_step(buffer) for _ in range(num_due)]
        self._explore()
        self.version += 1
        # NaN: what a step left out, such as the loss of a group that it did not train.
        values = torch.stack(reports).nanmean(0).tolist() if reports else [math.nan] * len(self._metric_names)
        metrics = dict(zip(self._metric_names, values, strict=True))
        metrics |= {
            "num_gradient_steps": self.num_gradient_steps,
            "replay_size": len(buffer) if buffer else 0,
            "policy_age": float(self._age),
            **self._connected,
        }
        result = {f"learner/{self.name}/{key}": value for key, value in metrics.items()}
        if self.on_update_end is not None:
            self.on_update_end(self, result)
        return result

    def _gradient_step(self, buffer: ReplayBuffer) -> Tensor:
        """Draw a batch, step each group's optimizer, let the targets follow; return the figures to report."""
        settings, step = self.settings, self.num_gradient_steps
        batch, draw = self._draw(buffer), Draw(generator=self.generator, step=step)
        with self.backward.autocast:
            losses = self.objective.losses(self.module, self.targets, batch, settings, draw)
        figures: dict[str, Tensor | float] = dict(losses.report)
        for group, loss in losses.by_group.items():
            optimizer = self.optimizers[group]
            optimizer.zero_grad()
            self.backward(loss, inputs=optimizer.parameters)
        self.backward.finish(*(self.optimizers[group] for group in losses.by_group))
        norms = {
            group: self.optimizers[group].clip(settings.grad_clip, settings.grad_clip_by) for group in losses.by_group
        }
        figures |= {f"grad_norm_{group}": norm for group, norm in norms.items()}
        bad = [group for group, loss in losses.by_group.items() if not math.isfinite(norms[group] + loss.item())]
        if bad and self.backward.overflowed():
            losses = Losses({}, {}, losses.td_error)  # the gradient step goes on without the optimizers'
        elif bad:
            raise NonFiniteError(
                f"Learner {self.name!r}: in gradient step {step} the {bad[0]} loss was "
                f"{losses.by_group[bad[0]].item():g} and its gradient norm {norms[bad[0]]:g}, which is not finite; "
                "that step was not taken. Lower the learning rate, bound the rewards, or set grad_clip."
            )
        for group in losses.by_group:
            self.optimizers[group].step(self._lr(group))
        if losses.td_error is not None and settings.replay_buffer_config.type == "prioritized":
            buffer.update_priorities(batch.index, losses.td_error.abs())
        self._follow(all_trained=len(losses.by_group) == len(self.optimizers))
        self.num_gradient_steps += 1
        return torch.tensor([float(figures.get(name, math.nan)) for name in self._metric_names])

    def _draw(self, buffer: ReplayBuffer) -> Transitions | Sequences:
        """Draw the batch of a gradient step, on the module's device."""
        settings = self.settings
        config = settings.replay_buffer_config
        beta = value_at(config.beta, self.env_steps)
        batch: Transitions | Sequences
        if self._is_recurrent:
            length = self.module.max_seq_len
            num_sequences = -(-settings.train_batch_size_per_learner // length)
            batch = buffer.sample_sequences(num_sequences, length=settings.burn_in_len + length, beta=beta)
        else:
            batch = buffer.sample(
                settings.train_batch_size_per_learner, n_step=settings.n_step, gamma=settings.gamma, beta=beta
            )
        device = next(iter(self.optimizers.values())).parameters[0].device
        return batch if batch.reward.device == device else to_device(batch, device)

    def _lr(self, group: str) -> float:
        """Read the learning rate of a group."""
        schedule = getattr(self.settings, self.objective.groups[group].lr)
        return value_at(self.settings.lr if schedule is None else schedule, self.env_steps)

    def _follow(self, *, all_trained: bool) -> None:
        """Move the target networks towards the trained ones when that is due: `target += tau (online - target)`."""
        settings = self.settings
        self._target_due += settings.env_steps_per_gradient_step
        if not all_trained or self._target_due < settings.target_network_update_freq:
            return
        self._target_due = 0.0
        self._slow.follow(settings.tau)

    def _explore(self) -> None:
        """Tell the module how to explore from here on."""
        if self.objective.explore is not None:
            self.objective.explore(self.module, self.settings, self.env_steps)

    def _make_buffer(self, num_slots: int) -> ReplayBuffer:
        """Make the buffer for rollouts of so many env slots."""
        config = self.settings.replay_buffer_config
        return ReplayBuffer(
            config.capacity,
            num_slots=num_slots,
            seed=int(torch.randint(2**31 - 1, (), generator=self.generator)),
            priorities=PrioritySettings(alpha=config.alpha) if config.type == "prioritized" else None,
            folder=None if config.folder is None else Path(config.folder),
        )

    def weights(self) -> Weights:
        """Publish what acting needs of the module: views of the tensors, not copies."""
        return Weights(version=self.version, tensors=self._published)

    def get_state(self) -> dict[str, Any]:
        """Return everything but the published weights that the next update depends on.

        The buffer is left out where `save_in_checkpoints` says so.
        """
        state = {
            "learner_only": learner_only_tensors(self.module),
            "connectors": [] if self.connectors is None else self.connectors.get_state(),
            "optimizers": {group: optimizer.get_state() for group, optimizer in self.optimizers.items()},
            "backward": self.backward.get_state(),
            "targets": self._slow.get_state(),
            "generator": self.generator.get_state(),
            "num_slots": self.buffer.num_slots if self.buffer is not None else 0,
            "num_stored": self._num_stored,
            "version": self.version,
            "env_steps": self.env_steps,
            "num_gradient_steps": self.num_gradient_steps,
            "due": (self._due, self._target_due),
            "age": self._age,
        }
        if self.settings.replay_buffer_config.save_in_checkpoints:
            state["buffer"] = None if self.buffer is None else self.buffer.get_state()
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave; without a buffer in it the one that is here stays.

        Raises:
            CheckpointError: the state does not fit this module, buffer or connectors.
        """
        restore_connectors(self.connectors, state["connectors"])
        for group, optimizer in self.optimizers.items():
            optimizer.set_state(state["optimizers"][group])
        self.backward.set_state(state["backward"])
        self._slow.set_state(state["targets"])
        self.generator.set_state(state["generator"])
        self.version, self.env_steps = state["version"], state["env_steps"]
        self.num_gradient_steps = state["num_gradient_steps"]
        self._due, self._target_due = state["due"]
        self._age = state["age"]
        if "buffer" in state:
            self.buffer, self._num_stored = None, state["num_stored"]
            if state["buffer"] is not None:
                self.buffer = self._make_buffer(state["num_slots"])
                self.buffer.set_state(state["buffer"])
                self.generator.set_state(state["generator"])
        if self.buffer is None:
            self._num_stored, self._due = 0, 0.0  # fill the buffer before learning goes on
        self._explore()


def _check_parts(module: RLModule, objective: ReplayObjective[Any], parameters: Mapping[str, nn.Parameter]) -> None:
    """Refuse a module without the parts that the objective trains, or with parameters that nothing would train."""
    parts = [part for group in objective.groups.values() for part in group.parts]
    missing = [part for part in (*parts, *objective.targets) if not hasattr(module, part)]
    idle = [name for name in parameters if name.split(".")[0] not in parts]
    if missing or idle:
        problems = [f"it has no {part!r}" for part in dict.fromkeys(missing)]
        problems += [f"nothing would train {name}" for name in idle[:8]]
        raise ConfigError(
            f"module_class: {type(module).__name__} does not fit this algorithm, which trains the parts "
            f"{', '.join(map(repr, parts))}: {'; '.join(problems)}. Derive it from the algorithm's own module, and "
            "freeze what shall not be trained with requires_grad_(False)."
        )
