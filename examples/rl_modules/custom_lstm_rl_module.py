"""A recurrent module written from scratch: an LSTM for the policy and one for the value function.

Shows: what memory asks of an RLModule. The state is a value: `initial_state` makes it, `forward_policy` takes and
returns it, one step at a time, while `forward_train` runs over whole segments of `max_seq_len` steps and must give the
same numbers. Runner and learner do the rest: they carry the state, restart it with each episode and cut the segments.
With one LSTM for both, the loss of values weighted by 0.01, two agents (seed 1) were at 195 after 227,000 env steps.
StatelessCartPole of rl_envs hides the velocities: without memory 49 is about the best, at most 500 steps are possible.
Criterion: evaluation return of 300 within 2,000,000 env steps. `--num-agents 2` gives each of two agents such a module.
Command: python examples/rl_modules/custom_lstm_rl_module.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 310.1, 303.9, 386.4 after 48,508, 48,595, 103,536 steps (25 to 30 s on two busy cores). Two
agents, sum of both, `--stop-reward 600`: 636.4, 601.5, 667.2 after 55,296, 49,152, 73,728 (24 to 122 s).
"""

from gymnasium import spaces
from torch import Tensor, nn

from rl_connectors import MeanStdFilter
from rl_core import PPOConfig, RLModule
from rl_core.example import example_parser, run_example
from rl_multiagent import independent_agents

State = tuple[Tensor, Tensor]

parser = example_parser(
    __doc__,
    env="rl_envs:rl_envs/StatelessCartPole-v0",
    stop_reward=300,
    stop_timesteps=2_000_000,
    honours=["--num-agents"],
)


class RecurrentNetwork(nn.Module):
    """A dense layer, an LSTM and a linear layer."""

    def __init__(self, num_inputs: int, num_units: int, num_outputs: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(num_inputs, num_units), nn.Tanh())
        self.lstm = nn.LSTM(num_units, num_units)
        self.head = nn.Linear(num_units, num_outputs)

    def forward(self, obs: Tensor, state: State) -> tuple[Tensor, State]:
        """Run over `[L, S, D]` from a state `[S, H]`; PyTorch wants an axis for the layers of an LSTM in the state."""
        hidden, cell = (part.unsqueeze(0).contiguous() for part in state)
        features, (hidden, cell) = self.lstm(self.encoder(obs), (hidden, cell))
        return self.head(features), (hidden.squeeze(0), cell.squeeze(0))


class LSTMModule(RLModule):
    """Policy and value function with an LSTM each: values, which are large, would spoil the memory of a policy."""

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        *,
        num_units: int = 64,
        max_seq_len: int = 64,
    ) -> None:
        """Build the layers.

        Args:
            observation_space: A vector.
            action_space: Any.
            num_units: H, of the dense layers and of the LSTMs.
            max_seq_len: L, the most steps of a segment.
        """
        super().__init__(observation_space, action_space)
        self.max_seq_len, self.num_units = max_seq_len, num_units
        self.policy = RecurrentNetwork(*observation_space.shape, num_units, self.distribution.num_inputs)
        self.value = RecurrentNetwork(*observation_space.shape, num_units, 1)

    def initial_state(self, batch_size: int) -> tuple[State, State]:
        """Begin with zeros `[B, H]`: hidden and cell of the policy, and those of the value function."""
        zeros = self.policy.head.weight.new_zeros(batch_size, self.num_units)
        return (zeros, zeros.clone()), (zeros.clone(), zeros.clone())

    def forward_policy(self, obs: Tensor, state: tuple[State, State]) -> tuple[Tensor, tuple[State, State]]:
        """Take one step: observations `[B, D]`. The value function's memory goes along."""
        outputs, policy_state = self.policy(obs.unsqueeze(0), state[0])
        _, value_state = self.value(obs.unsqueeze(0), state[1])
        return outputs.squeeze(0), (policy_state, value_state)

    def forward_value(self, obs: Tensor, state: tuple[State, State]) -> Tensor:
        """Take one step: values `[B]`."""
        value, _ = self.value(obs.unsqueeze(0), state[1])
        return value.reshape(len(obs))

    def forward_train(self, obs: Tensor, state: tuple[State, State]) -> tuple[Tensor, Tensor]:
        """Take L steps of S segments: observations `[L, S, D]`, and the state before the first of them."""
        return self.policy(obs, state[0])[0], self.value(obs, state[1])[0].squeeze(-1)


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=16, gym_env_vectorize_mode="vector_entry_point")
        .env_runners(env_to_module_connector=(MeanStdFilter(),))
        .training(train_batch_size_per_learner=2048, minibatch_size=256, num_epochs=6)
        .training(lr=[[0, 1e-3], [300_000, 1e-4]], gamma=0.995, lambda_=0.95)
        .rl_module(module_class=LSTMModule)
    )
    run_example(independent_agents(config, args.num_agents), args)
