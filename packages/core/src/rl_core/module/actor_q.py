"""Actor and critics of off-policy algorithms for continuous and discrete actions: SAC, TD3, TQC."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_core.config.check import Range, Settings
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.module.discrete import Categorical
from rl_core.module.distribution_base import flatten_event
from rl_core.module.encoders import dense_network, is_plain_vector, make_encoder, output_layers
from rl_core.module.exploration import NoisyAction
from rl_core.module.gaussian import SquashedGaussian
from rl_core.module.rl_module import RLModule
from rl_core.module.settings import ModelSettings
from rl_core.tree import Tree

Size = Annotated[int, Range(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorQSettings(Settings):
    """How `ActorQ` is built; the algorithm fills it in."""

    model: ModelSettings = field(default_factory=ModelSettings)
    """Encoder and dense layers of actor and critics."""
    actor: Literal["stochastic", "deterministic"] = "stochastic"
    """A squashed normal distribution (categorical for Discrete), or one action with noise for exploration."""
    num_critics: Size = 2
    """C: critics. Source: Fujimoto et al. 2018 for two."""
    num_quantiles: Size = 1
    """M: quantiles of each critic's return distribution; 1 learns its mean. Source: Kuznetsov et al. 2020."""
    initial_alpha: Annotated[float, Range(gt=0)] = 1.0
    """Temperature at the start. Source: Haarnoja et al. 2018b."""

    def check(self) -> None:
        """Refuse a memory: these modules have none."""
        if self.model.has_memory:
            raise ConfigError(
                "use_lstm, use_gru, use_attention: this algorithm's module has no memory. Use PPO, A2C or DQN, or "
                "stack observations."
            )


class Critics(nn.Module):
    """C networks from observations and actions to action values.

    Box actions go in beside the observation (or the features of what is no vector), and `[C, N, M]` comes out; for
    Discrete actions all A values come out, `[C, N, A]`.
    """

    def __init__(self, space: spaces.Space[Any], action_space: spaces.Space[Any], settings: ActorQSettings) -> None:
        """Make and initialise the layers."""
        super().__init__()
        model = settings.model
        self.encoder = None if is_plain_vector(space) else make_encoder(space, model)
        num_features: int = space.shape[0] if self.encoder is None else self.encoder.num_features  # type: ignore[index]
        self.action_shape = () if isinstance(action_space, spaces.Discrete) else action_space.shape
        self.takes_action = not isinstance(action_space, spaces.Discrete)
        num_outputs = settings.num_quantiles if self.takes_action else int(action_space.n)  # type: ignore[attr-defined]
        num_features += math.prod(self.action_shape or ()) if self.takes_action else 0
        make = output_layers if self.encoder else dense_network
        # One after the other: the products of all at once would leave the second-level cache, and take longer.
        self.values = nn.ModuleList(
            make(num_features, num_outputs, model, gain=1.0) for _ in range(settings.num_critics)
        )

    def forward(self, obs: Tree, action: Tensor | None = None) -> Tensor:
        """Map `[..., *observation shape]` to `[C, ..., M]`, or without an action to `[C, ..., A]`."""
        features = obs if self.encoder is None else self.encoder(obs)
        if action is not None:
            features = torch.cat((features, flatten_event(action, self.action_shape or ())), -1)
        return torch.stack([value(features) for value in self.values])


class Actor(nn.Module):
    """The network from observations to the distribution's inputs, or to the deterministic action."""

    low: Tensor
    high: Tensor

    def __init__(
        self, space: spaces.Space[Any], num_outputs: int, model: ModelSettings, bounds: tuple[Tensor, Tensor] | None
    ) -> None:
        """Make and initialise the layers; `bounds` `[D]` make the outputs actions between them."""
        super().__init__()
        self.encoder = make_encoder(space, model)
        self.head = output_layers(self.encoder.num_features, num_outputs, model, gain=model.policy_head_gain)
        self.bounded = bounds is not None
        if bounds is not None:
            self.register_buffer("low", bounds[0])
            self.register_buffer("high", bounds[1])

    def forward(self, obs: Tree) -> Tensor:
        """Map observations with any leading axes to `[..., P]`, or to actions `[..., D]` within the bounds."""
        outputs: Tensor = self.head(self.encoder(obs))
        if not self.bounded:
            return outputs
        share = (2.0 * outputs.to(self.low.dtype)).sigmoid()  # in mixed precision it is in half
        return torch.lerp(self.low, self.high, share)


class ActorQ(RLModule):
    """An actor, critics that only the learner has, and a temperature.

    `exploration` `[2]` holds, for a deterministic actor, the standard deviation of its noise as a share of half the
    range and the probability of a uniform action; the algorithm sets it.
    """

    settings_class: ClassVar[type[Settings] | None] = ActorQSettings
    settings_from_algorithm: ClassVar[bool] = True
    learner_only: ClassVar[tuple[str, ...]] = ("critic", "log_alpha")
    actor_class: ClassVar[type[Actor]] = Actor
    critics_class: ClassVar[type[Critics]] = Critics
    exploration: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        settings: ActorQSettings | None = None,
    ) -> None:
        """Build the networks, with weights from torch's global random state.

        Args:
            observation_space: Anything that `make_encoder` takes.
            action_space: A Box with finite bounds; for a stochastic actor also Discrete.
            settings: None takes the defaults.

        Raises:
            UnsupportedSpaceError: one of the spaces cannot be handled.
        """
        settings = settings or ActorQSettings()
        _check_action_space(action_space, settings)
        super().__init__(observation_space, action_space)
        self.settings = settings
        model = settings.model
        bounds = None
        if settings.actor == "deterministic":
            assert isinstance(action_space, spaces.Box)
            distribution = NoisyAction(action_space.low, action_space.high)
            self.distribution, bounds = distribution, (distribution.low.clone(), distribution.high.clone())
            self.register_buffer("exploration", torch.tensor([0.0, 1.0]))
        elif isinstance(action_space, spaces.Box):
            self.distribution = SquashedGaussian(
                action_space.low, action_space.high, log_std_bounds=model.log_std_bounds
            )
        else:
            self.distribution = Categorical(int(action_space.n))  # type: ignore[attr-defined]
        num_outputs = self.distribution.num_inputs - (0 if bounds is None else 2)
        self.policy = self.actor_class(observation_space, num_outputs, model, bounds)
        self.critic = self.critics_class(observation_space, action_space, settings)
        if bounds is None:
            self.log_alpha = nn.Parameter(torch.tensor(math.log(settings.initial_alpha)))

    def forward_policy(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tree]:
        """Return the distribution's inputs `[..., P]` and the state as it came."""
        outputs = self.policy(obs)
        if not self.policy.bounded:
            return outputs, state
        return torch.cat((outputs, self.exploration.expand(*outputs.shape[:-1], 2)), -1), state

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Return the mean of the critics' values of the best action `[...]`."""
        if not self.critic.takes_action:
            value: Tensor = self.critic(obs).mean(0).amax(-1)
            return value
        action = self.distribution.mode(self.forward_policy(obs)[0])
        value = self.critic(obs, action).mean((0, -1))
        return value


def _check_action_space(space: spaces.Space[Any], settings: ActorQSettings) -> None:
    """Refuse action spaces that these networks cannot handle."""
    if isinstance(space, spaces.Discrete) and settings.actor == "stochastic" and settings.num_quantiles == 1:
        return
    if isinstance(space, spaces.Box) and space.is_bounded() and space.shape != (0,) and space.dtype.kind == "f":
        return
    expected = "a Box of floats with finite bounds"
    if settings.actor == "stochastic" and settings.num_quantiles == 1:
        expected += ", or Discrete"
    raise UnsupportedSpaceError(f"ActorQ: got the action space {space}, expected {expected}.")
