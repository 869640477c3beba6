"""The learner of the critic that sees all agents."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from rl_core import Rollout, Weights
from rl_core.errors import NonFiniteError
from rl_core.learning.backward import Backward
from rl_core.learning.learner import Metrics, to_device
from rl_core.learning.optimizer import OptimizerFactory
from rl_core.learning.schedule import value_at
from rl_core.ops.returns import explained_variance, gae
from rl_multiagent.algorithms.mappo import MAPPOSettings
from rl_multiagent.module.central_critic import CentralCritic

CRITIC: Final = "central_critic"
"""Its id among the learners, and in metric keys."""


class CriticLearner:
    """Values the rollouts of several policies, then learns from all of them at once, in float32."""

    def __init__(
        self, module: CentralCritic, settings: MAPPOSettings, *, make_optimizer: OptimizerFactory, seed: int
    ) -> None:
        """Take ownership of the critic.

        Args:
            module: Trained in place, on the device it is on.
            settings: Of the algorithm.
            make_optimizer: From named parameters to their optimizer.
            seed: Of the minibatch orders.
        """
        self.module = module
        self.settings = settings
        self.backward = Backward("float32", module)
        self.optimizer = make_optimizer(dict(module.named_parameters()))
        self.generator = torch.Generator().manual_seed(seed)
        self.version = 0
        self.env_steps = 0
        self.on_update_end: Callable[[Any, Metrics], None] | None = None

    def judge(self, rollouts: Mapping[str, Rollout]) -> tuple[dict[str, Rollout], Metrics]:
        """Value what policies did, and learn from it.

        Args:
            rollouts: By policy; those are valued whose `extras` have `joint` `[T + 1, B, J]` and `final_joint` `[K,
                J]`.

        Returns:
            The rollouts, with the critic's values before it learned in `extras`: `value` `[T + 1, B]` and `next_value`
            `[T, B]`; and figures under `learner/central_critic/...`.

        Raises:
            NonFiniteError: a loss or gradient became NaN or infinite; that step was not taken.
        """
        judged, parts = dict(rollouts), []
        for name, rollout in rollouts.items():
            if "joint" in rollout.extras:
                judged[name] = self._valued(rollout)
                parts.append(self._samples(judged[name]))
        if not parts:
            return judged, {f"learner/{CRITIC}/{name}": math.nan for name in _REPORT}
        joint, target, value = (torch.cat(columns) for columns in zip(*parts, strict=True))
        self._observe(target)
        metrics = self._learn(joint, target)
        metrics["explained_variance"] = float(explained_variance(value, target))
        self.version += 1
        self.env_steps += max(rollout.env_steps for rollout in rollouts.values())
        result = {f"learner/{CRITIC}/{name}": metrics[name] for name in _REPORT}
        if self.on_update_end is not None:
            self.on_update_end(self, result)
        return judged, result

    def _valued(self, rollout: Rollout) -> Rollout:
        """Return a rollout with the critic's values."""
        device = self.optimizer.parameters[0].device
        if rollout.reward.device != device:
            rollout = to_device(rollout, device)
        with torch.inference_mode():
            value = self.module(rollout.extras["joint"])
            next_value = value[1:]
            if len(rollout.final_index):
                final = self.module(rollout.extras["final_joint"])
                next_value = next_value.flatten().index_copy(0, rollout.final_index, final).view_as(next_value)
        return dataclasses.replace(rollout, extras={**rollout.extras, "value": value, "next_value": next_value})

    def _samples(self, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
        """Return the real samples of a valued rollout: what was seen `[N, J]`, value targets and values `[N]`."""
        settings, value = self.settings, rollout.extras["value"][:-1]
        advantage = gae(
            rollout.reward,
            value,
            rollout.extras["next_value"],
            rollout.terminated,
            rollout.truncated,
            gamma=settings.gamma,
            lambda_=settings.lambda_,
        )
        columns = (rollout.extras["joint"][:-1], advantage + value, value)
        if rollout.valid is None:
            joint, target, value = (column.flatten(0, 1) for column in columns)
        else:
            joint, target, value = (column[rollout.valid] for column in columns)
        return joint, target, value

    def _observe(self, target: Tensor) -> None:
        """Take the targets of all learners into the critic's moments."""
        moments = torch.stack((target.sum(), target.square().sum())) / max(1, len(target))
        if (peers := self.backward.peers) is not None:
            moments *= peers.weight(len(target))
            peers.average([moments])
        self.module.observe(*moments, decay=self.settings.critic_moments_decay)

    def _learn(self, joint: Tensor, target: Tensor) -> Metrics:
        """Take the optimiser steps of an update; return means over them."""
        settings, backward = self.settings, self.backward
        lr = value_at(settings.lr if settings.critic_lr is None else settings.critic_lr, self.env_steps)
        losses, norms = [], []
        for index in self._orders(len(target)):
            loss = self.module.loss(joint[index], target[index])
            self.optimizer.zero_grad()
            backward(loss, 1.0 if backward.peers is None else backward.peers.weight(len(index)))
            backward.finish(self.optimizer)
            norm = self.optimizer.clip(settings.grad_clip, settings.grad_clip_by)
            if not math.isfinite(norm + loss.item()):
                raise NonFiniteError(
                    f"Central critic: loss {loss.item():g} and gradient norm {norm:g} are not finite; that step was "
                    "not taken. Look for rewards that are not finite or very large; lower critic_lr or set grad_clip."
                )
            lr = self.optimizer.step(lr)
            losses.append(loss.item())
            norms.append(norm)
        num_steps = max(1, len(losses))  # of several learners one may have no samples; then none takes a step
        return {"value_loss": sum(losses) / num_steps, "grad_norm": sum(norms) / num_steps, "lr": lr}

    def _orders(self, num_samples: int) -> Iterator[Tensor]:
        """Yield the samples of each minibatch: each once per epoch, split evenly."""
        num_parts = -(-num_samples // self.settings.minibatch_size)
        if self.backward.peers is not None:
            num_parts = self.backward.peers.smallest(num_parts)
        for _ in range(self.settings.num_epochs if num_parts else 0):
            yield from torch.randperm(num_samples, generator=self.generator).tensor_split(num_parts)

    def weights(self) -> Weights:
        """Publish nothing: nobody acts with a critic."""
        return Weights(version=self.version, tensors={})

    def get_state(self) -> dict[str, Any]:
        """Return all that the next update depends on."""
        return {
            "learner_only": dict(self.module.state_dict()),
            "optimizer": self.optimizer.get_state(),
            "generator": self.generator.get_state(),
            "version": self.version,
            "env_steps": self.env_steps,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave; the tensors are loaded before."""
        self.optimizer.set_state(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.version, self.env_steps = state["version"], state["env_steps"]


_REPORT = ("value_loss", "explained_variance", "grad_norm", "lr")
"""Names of its figures."""
