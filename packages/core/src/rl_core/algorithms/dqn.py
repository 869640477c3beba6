"""Deep Q-learning with every part of Rainbow as a switch: settings and losses.

Source: Mnih et al. 2015; Hessel et al. 2018 for the parts together; Kapturowski et al. 2019 for recurrent networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from rl_core.algorithm.replay_config import ReplayAlgorithmConfig
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.config.settings import ModuleSettings, Schedule, check_schedule
from rl_core.learning.replay_learner import Draw, Group, Losses, ReplayObjective
from rl_core.learning.replay_settings import ReplaySettings
from rl_core.learning.schedule import value_at
from rl_core.module.q_network import QNetwork, QNetworkSettings, QValues
from rl_core.module.settings import ModelSettings
from rl_core.ops.distributional import categorical_loss, categorical_projection
from rl_core.ops.sequences import sequence_n_step_target, sequence_priority
from rl_core.ops.value_learning import double_q_value, select, td_loss, td_target
from rl_core.replay.records import Sequences, Transitions
from rl_core.tree import tree_map


@dataclass(frozen=True, slots=True, kw_only=True)
class DQNSettings(ReplaySettings):
    """Section `training` of DQN. Names and defaults are RLlib's where it has them."""

    lr: Schedule = 5e-4
    """Learning rate, constant or a schedule over env steps."""
    train_batch_size_per_learner: Annotated[int, Range(ge=1)] = 32
    """Transitions drawn per gradient step. Source: Mnih et al. 2015."""
    env_steps_per_gradient_step: Annotated[float, Range(gt=0)] = 4.0
    """Env steps sampled for each gradient step. Source: Mnih et al. 2015."""
    tau: Annotated[float, Range(gt=0, le=1)] = 1.0
    """Share of the newest weights that goes into the target network at each of its updates; 1 copies them."""
    target_network_update_freq: Annotated[int, Range(ge=0)] = 500
    """Env steps between updates of the target network."""
    epsilon: Schedule = ((0.0, 1.0), (10_000.0, 0.05))
    """Probability of a random action, a schedule over env steps."""
    double_q: bool = True
    """Choose the next action by the online network. Source: van Hasselt et al. 2016."""
    dueling: bool = True
    """A value and advantages instead of action values. Source: Wang et al. 2016."""
    noisy: bool = False
    """Learned noise on the last layer's weights; `epsilon` may then be 0. Source: Fortunato et al. 2018."""
    sigma0: Annotated[float, Range(gt=0)] = 0.5
    """Scale of that noise at the start."""
    num_atoms: Annotated[int, Range(ge=1)] = 1
    """Points of the distribution of returns; 1 learns its mean alone, 51 is usual. Source: Bellemare et al. 2017."""
    v_min: float = -10.0
    """Least return of that distribution."""
    v_max: float = 10.0
    """Greatest return of that distribution."""
    td_error_loss_fn: Literal["huber", "mse"] = "huber"
    """Loss of the temporal-difference error, for one atom. Source: Mnih et al. 2015 for huber."""

    def check(self) -> None:
        """Check the schedule of epsilon too."""
        ReplaySettings.check(self)
        check_schedule("epsilon", self.epsilon, high=1.0)


def losses(
    module: QNetwork, targets: Mapping[str, QValues], batch: Transitions | Sequences, settings: DQNSettings, draw: Draw
) -> Losses:
    """Temporal-difference loss of one batch."""
    q, target = module.q, targets["q"]
    if settings.noisy:
        q.redraw(draw.generator)
        target.redraw(draw.generator)
    if isinstance(batch, Sequences):
        return _sequence_losses(q, target, batch, settings, draw)
    prediction = select(q(batch.obs), batch.action)  # [N] or [N, M]
    weight = batch.weight if settings.replay_buffer_config.type == "prioritized" else None
    with torch.no_grad():
        next_outputs = target(batch.next_obs)
        chooser = q(batch.next_obs) if settings.double_q else next_outputs
        if settings.num_atoms == 1:
            next_value = double_q_value(next_outputs, chooser)
            goal = td_target(batch.reward, batch.discount, next_value)
        else:
            best = q.mean(chooser).argmax(-1)
            goal = categorical_projection(
                select(next_outputs, best).softmax(-1, batch.reward.dtype), q.support, batch.reward, batch.discount
            )
    if settings.num_atoms == 1:
        loss, error = td_loss(prediction, goal, weight, kind=settings.td_error_loss_fn)
        value = prediction
    else:
        loss, error = categorical_loss(prediction, goal, weight)
        value = q.mean(prediction)
    return Losses({"q": loss}, _report(loss, error, value), error)


def _sequence_losses(q: QValues, target: QValues, batch: Sequences, settings: DQNSettings, draw: Draw) -> Losses:
    """Temporal-difference loss of sequences `[L, S]`, after their burn-in.

    Source: Kapturowski et al. 2019, section 3.
    """
    obs, burn_in = batch.obs, settings.burn_in_len
    state, target_state = batch.state, batch.state
    with torch.no_grad():
        for time in range(burn_in):
            now = tree_map(lambda leaf, t=time: leaf[t], obs)
            _, state = q.trunk.step(now, state)
            _, target_state = target.trunk.step(now, target_state)
    obs = tree_map(lambda leaf: leaf[burn_in:], obs)
    action, reward, terminated, truncated, valid = (
        column[burn_in:] for column in (batch.action, batch.reward, batch.terminated, batch.truncated, batch.valid)
    )
    value = q.sequence(obs, state)  # [L + 1, S, A]
    with torch.no_grad():
        next_value = target.sequence(obs, target_state)[1:]
        chooser = value[1:] if settings.double_q else next_value
        best = next_value.gather(-1, chooser.argmax(-1, keepdim=True)).squeeze(-1)
        goal, valid = sequence_n_step_target(
            reward, terminated, truncated, valid, best, n_step=_num_steps(settings, draw), gamma=settings.gamma
        )
    real = valid.flatten().nonzero().squeeze(-1)
    prediction = select(value[:-1].flatten(0, 1), action.flatten()).index_select(0, real)
    weight = batch.weight.expand_as(valid).flatten().index_select(0, real)
    loss, error = td_loss(prediction, goal.flatten().index_select(0, real), weight, kind=settings.td_error_loss_fn)
    errors = torch.zeros_like(reward).flatten().index_copy(0, real, error).view_as(reward)
    return Losses({"q": loss}, _report(loss, error, prediction), sequence_priority(errors, valid))


def _num_steps(settings: DQNSettings, draw: Draw) -> int:
    """The n of n-step targets; of a range one number for the whole batch."""
    if isinstance(settings.n_step, int):
        return settings.n_step
    low, high = settings.n_step
    return int(torch.randint(low, high + 1, (), generator=draw.generator))


def _report(loss: Tensor, error: Tensor, value: Tensor) -> dict[str, Tensor]:
    """What is worth reporting of a gradient step."""
    return {"td_loss": loss.detach(), "td_error": error.abs().mean(), "q_mean": value.detach().mean()}


def explore(module: QNetwork, settings: DQNSettings, env_steps: int) -> None:
    """Set epsilon to what its schedule says."""
    module.epsilon.fill_(value_at(settings.epsilon, env_steps))


OBJECTIVE = ReplayObjective(
    groups={"q": Group(parts=("q",))},
    targets=("q",),
    losses=losses,
    report=("td_loss", "td_error", "q_mean"),
    explore=explore,
)


class DQNConfig(ReplayAlgorithmConfig):
    """Config of DQN: `DQNConfig().environment("CartPole-v1").training(double_q=True, n_step=3).build()`."""

    name = "dqn"
    action_spaces = ("Discrete",)
    objective = OBJECTIVE
    default_module = QNetwork
    training = Section(DQNSettings)  # type: ignore[assignment] # the keywords of a section are not those of its base
    rl_module = Section(
        ModuleSettings,
        model_config=ModelSettings(fcnet_hiddens=(256, 256), fcnet_activation="relu", initializer="torch"),
    )

    @staticmethod
    def module_settings(model: ModelSettings, training: DQNSettings) -> QNetworkSettings:
        """Settings of the network of action values."""
        return QNetworkSettings(
            model=model,
            dueling=training.dueling,
            num_atoms=training.num_atoms,
            v_min=training.v_min,
            v_max=training.v_max,
            noisy=training.noisy,
            sigma0=training.sigma0,
        )
