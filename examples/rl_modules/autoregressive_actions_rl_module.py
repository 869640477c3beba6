"""A module that draws its second action given the first, which it has just drawn.

Shows: an RLModule of its own with a distribution of its own. `Autoregressive` takes from the network the logits of the
first action and, for each of its values, the inputs of a distribution of the second: everything is computed in one
pass, and log probability, entropy and mode are those of the pair.
    p(a1, a2 | obs) = p(a1 | obs) p(a2 | obs, a1)
`floor` keeps the first action random: a share of it is drawn uniformly.
    p(a1 | obs) = (1 - floor) softmax(logits) + floor / n
Criterion: evaluation return (1,000 episodes) of -0.45 in rl_envs' CorrelatedActionsEnv within 2,000,000 env steps; the
best with a floor of 0.2 is -0.367. actions/autoregressive_actions.py uses this module and has the control.
Command: python examples/rl_modules/autoregressive_actions_rl_module.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -0.428, -0.449, -0.447 after 36,864, 30,720, 30,720 steps (2 s).
"""

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rl_core import PPOConfig, RLModule
from rl_core.example import example_parser, run_example
from rl_core.module import MLP, Autoregressive, distribution_for

parser = example_parser(
    __doc__, env="rl_envs:rl_envs/CorrelatedActions-v0", stop_reward=-0.45, stop_timesteps=2_000_000
)
parser.set_defaults(evaluation_duration=1000)  # of one step each


class TwoActionsModule(RLModule):
    """Policy and value function for actions of a Discrete and another space."""

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Tuple,
        *,
        autoregressive: bool = True,
        floor: float = 0.0,
        hiddens: Sequence[int] = (64, 64),
    ) -> None:
        """Build the networks.

        Args:
            observation_space: A vector.
            action_space: Tuple of a Discrete and any other space.
            autoregressive: False draws the second action without a look at the first.
            floor: Share of the first action that is drawn uniformly, in [0, 1).
            hiddens: Units of the hidden layers.
        """
        super().__init__(observation_space, action_space)
        first, second = map(distribution_for, action_space.spaces)
        if autoregressive:
            self.distribution = Autoregressive(first, second)
        self.num_first, self.floor = first.num_inputs, floor
        self.policy = MLP((*observation_space.shape, *hiddens, self.distribution.num_inputs), last_gain=0.01)
        self.value = MLP((*observation_space.shape, *hiddens, 1), last_gain=1.0)

    def forward_policy(self, obs: Tensor, state: Any = ()) -> tuple[Tensor, Any]:
        """Return the distribution's inputs, which begin with the first action's logits either way."""
        outputs = self.policy(obs)
        logits, second = outputs[..., : self.num_first], outputs[..., self.num_first :]
        probability = (1 - self.floor) * logits.softmax(-1) + self.floor / self.num_first
        return torch.cat((probability.log(), second), -1), state

    def forward_value(self, obs: Tensor, state: Any = ()) -> Tensor:
        """Return the value."""
        return self.value(obs).squeeze(-1)


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=32)
        .training(train_batch_size_per_learner=2048, minibatch_size=256, lr=2e-3, gamma=0.0)
        .rl_module(module_class=TwoActionsModule, model_config={"floor": 0.2})
    )
    run_example(config, args)
