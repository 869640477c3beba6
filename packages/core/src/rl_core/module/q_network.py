"""Action values for Discrete actions: dueling, distributional and noisy as asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_core.config.check import Range, Settings
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.module.encoders import dense_layers, make_encoder
from rl_core.module.exploration import EpsilonGreedy
from rl_core.module.initialize import initializer_for
from rl_core.module.networks import MLP
from rl_core.module.noisy import NoisyLinear
from rl_core.module.recurrent import RecurrentTrunk
from rl_core.module.rl_module import RLModule
from rl_core.module.settings import ModelSettings
from rl_core.ops.value_learning import dueling
from rl_core.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class QNetworkSettings(Settings):
    """How `QNetwork` is built; the algorithm fills it in."""

    model: ModelSettings = field(default_factory=ModelSettings)
    """Encoder, memory and heads."""
    dueling: bool = True
    """A value and advantages instead of action values. Source: Wang et al. 2016."""
    num_atoms: Annotated[int, Range(ge=1)] = 1
    """M: points of the distribution of returns; 1 learns its mean alone. Source: Bellemare et al. 2017."""
    v_min: float = -10.0
    """Least return of the distribution."""
    v_max: float = 10.0
    """Greatest return of the distribution."""
    noisy: bool = False
    """Learned noise on the weights of the last layer. Source: Fortunato et al. 2018."""
    sigma0: Annotated[float, Range(gt=0)] = 0.5
    """Scale of that noise at the start. Source: Fortunato et al. 2018, section 3.2."""

    def check(self) -> None:
        """Refuse a distribution without room, or with a memory."""
        if not self.v_min < self.v_max:
            raise ConfigError(f"v_min, v_max: got {self.v_min} and {self.v_max}, expected v_min < v_max.")
        if self.num_atoms > 1 and self.model.has_memory:
            raise ConfigError(
                f"num_atoms: got {self.num_atoms} together with use_lstm, use_gru or use_attention, expected 1: with a "
                "memory the mean of the returns is learned alone."
            )


class QValues(nn.Module):
    """The network from observations to the value of each action, `[..., A]`, or to logits of it `[..., A, M]`."""

    support: Tensor

    def __init__(self, space: spaces.Space[Any], num_actions: int, settings: QNetworkSettings) -> None:
        """Make and initialise the layers."""
        super().__init__()
        model = settings.model
        self.num_actions, self.num_atoms, self.dueling = num_actions, settings.num_atoms, settings.dueling
        self.trunk: Any = RecurrentTrunk(space, model) if model.has_memory else make_encoder(space, model)
        sizes = (self.trunk.num_features, *model.head_fcnet_hiddens)
        self.hidden = dense_layers(sizes, model, "head_fcnet") if model.head_fcnet_hiddens else None
        num_outputs = (num_actions + settings.dueling) * settings.num_atoms
        self.head = (
            NoisyLinear(sizes[-1], num_outputs, sigma=settings.sigma0)
            if settings.noisy
            else MLP((sizes[-1], num_outputs), initializer=initializer_for(model, "head_fcnet"), last_gain=1.0)
        )
        self.register_buffer("support", torch.linspace(settings.v_min, settings.v_max, settings.num_atoms))

    def forward(self, obs: Tree) -> Tensor:
        """Map observations with any leading axes."""
        return self.outputs(self.trunk(obs))

    def sequence(self, obs: Tree, state: Tree) -> Tensor:
        """Map segments `[L, S, ...]` with the state before their first step to `[L, S, A]` or `[L, S, A, M]`."""
        return self.outputs(self.trunk.sequence(obs, state))

    def outputs(self, features: Tensor, **noisy: bool) -> Tensor:
        """Map features `[..., F]`; `noisy=False` leaves the noise of the weights out."""
        if self.hidden is not None:
            features = self.hidden(features)
        outputs: Tensor = self.head(features, **noisy)
        if self.num_atoms > 1:
            outputs = outputs.view(*outputs.shape[:-1], -1, self.num_atoms)
            return outputs if not self.dueling else dueling(outputs[..., :-1, :], outputs[..., -1:, :])
        return dueling(outputs[..., :-1], outputs[..., -1:]) if self.dueling else outputs

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the action values `[..., A]` of what `forward` gave."""
        return outputs if self.num_atoms == 1 else outputs.softmax(-1) @ self.support

    def redraw(self, generator: torch.Generator) -> None:
        """Draw the noise of the weights anew, if there is any."""
        if isinstance(self.head, NoisyLinear):
            self.head.redraw(generator)


class QNetwork(RLModule):
    """Action values, acted on greedily but for `epsilon`, a buffer that the algorithm sets."""

    settings_class: ClassVar[type[Settings] | None] = QNetworkSettings
    settings_from_algorithm: ClassVar[bool] = True
    values_class: ClassVar[type[QValues]] = QValues
    epsilon: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        settings: QNetworkSettings | None = None,
    ) -> None:
        """Build the networks, with weights from torch's global random state.

        Args:
            observation_space: Anything that `make_encoder` takes.
            action_space: Discrete.
            settings: None takes the defaults.

        Raises:
            UnsupportedSpaceError: one of the spaces cannot be handled.
        """
        if not isinstance(action_space, spaces.Discrete):
            raise UnsupportedSpaceError(
                f"QNetwork: got the action space {action_space}, expected Discrete: it puts out one value per action."
            )
        super().__init__(observation_space, action_space)
        settings = settings or QNetworkSettings()
        self.settings = settings
        self.max_seq_len = settings.model.max_seq_len
        num_actions = int(action_space.n)
        self.distribution = EpsilonGreedy(num_actions, noisy=settings.noisy)
        self.q = self.values_class(observation_space, num_actions, settings)
        self.register_buffer("epsilon", torch.ones(()))

    def initial_state(self, batch_size: int) -> Tree:
        """Return the memory's state before an episode."""
        trunk = self.q.trunk
        return trunk.memory.initial_state(batch_size) if isinstance(trunk, RecurrentTrunk) else ()

    def forward_policy(self, obs: Tree, state: Tree) -> tuple[Tensor, Tree]:
        """Return the action values and epsilon, see `EpsilonGreedy`, and the next state."""
        features, state = self._features(obs, state)
        return self._inputs(features)[0], state

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Return the value of the best action `[...]`."""
        return self._inputs(self._features(obs, state)[0])[1]

    def forward_train(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tensor]:
        """Return the distribution inputs and best values; of segments `[L, S, ...]` for a recurrent module."""
        trunk = self.q.trunk
        return self._inputs(trunk.sequence(obs, state) if isinstance(trunk, RecurrentTrunk) else trunk(obs))

    def _features(self, obs: Tree, state: Tree) -> tuple[Tensor, Tree]:
        """Map one step of observations to features and the next state."""
        if isinstance(self.q.trunk, RecurrentTrunk):
            return self.q.trunk.step(obs, state)
        return self.q.trunk(obs), state

    def _inputs(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map features to the distribution's inputs and the values of the best actions."""
        value = self.q.mean(self.q.outputs(features))
        parts = [value, self.epsilon.expand(*value.shape[:-1], 1)]
        if self.settings.noisy:
            parts.insert(1, self.q.mean(self.q.outputs(features, noisy=False)))
        return torch.cat(parts, -1), value.amax(-1)
