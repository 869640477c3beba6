"""A recurrent module written from scratch: an LSTM between a dense layer and the two heads.

Shows: what memory asks of an RLModule. The state is a value: `initial_state` makes it, `forward_policy` takes and
returns it, one step at a time, while `forward_train` runs over whole segments of `max_seq_len` steps and must give the
same numbers. Runner and learner do the rest: they carry the state, restart it with each episode and cut the segments.
StatelessCartPole of rl_envs hides the velocities: without memory 49 is about the best, at most 500 steps are possible.
Criterion: evaluation return of 300 within 2,000,000 env steps. `--num-agents 2` gives each of two agents such a module.
Command: python examples/rl_modules/custom_lstm_rl_module.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 317.4, 321.5, 334.1 after 320,395, 428,350, 469,869 steps (82 to 104 s).
Two agents, sum of both, goal 600: seed 0 622.1 after 380,928; seed 1 was at 421.1 after 708,608 when it was stopped.
"""

from gymnasium import spaces
from torch import Tensor, nn

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


class LSTMModule(RLModule):
    """A dense layer, an LSTM, and linear heads for policy and value function."""

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        *,
        num_units: int = 64,
        max_seq_len: int = 20,
    ) -> None:
        """Build the layers.

        Args:
            observation_space: A vector.
            action_space: Any.
            num_units: H, of the dense layer and of the LSTM.
            max_seq_len: L, the most steps of a segment.
        """
        super().__init__(observation_space, action_space)
        self.max_seq_len = max_seq_len
        self.encoder = nn.Sequential(nn.Linear(*observation_space.shape, num_units), nn.Tanh())
        self.lstm = nn.LSTM(num_units, num_units)
        self.policy = nn.Linear(num_units, self.distribution.num_inputs)
        self.value = nn.Linear(num_units, 1)

    def initial_state(self, batch_size: int) -> State:
        """Begin with zeros `[B, H]`: hidden and cell."""
        zeros = self.policy.weight.new_zeros(batch_size, self.lstm.hidden_size)
        return zeros, zeros.clone()

    def forward_policy(self, obs: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step: observations `[B, D]`."""
        features, state = self._run(obs.unsqueeze(0), state)
        return self.policy(features.squeeze(0)), state

    def forward_value(self, obs: Tensor, state: State) -> Tensor:
        """Take one step: values `[B]`."""
        features, _ = self._run(obs.unsqueeze(0), state)
        return self.value(features).reshape(len(obs))

    def forward_train(self, obs: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Take L steps of S segments: observations `[L, S, D]`, and the state before the first of them."""
        features, _ = self._run(obs, state)
        return self.policy(features), self.value(features).squeeze(-1)

    def _run(self, obs: Tensor, state: State) -> tuple[Tensor, State]:
        """Run the LSTM over `[L, S, D]`; PyTorch wants an axis for its layers in the state."""
        hidden, cell = (part.unsqueeze(0).contiguous() for part in state)
        features, (hidden, cell) = self.lstm(self.encoder(obs), (hidden, cell))
        return features, (hidden.squeeze(0), cell.squeeze(0))


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=16, gym_env_vectorize_mode="vector_entry_point")
        .training(train_batch_size_per_learner=2048, minibatch_size=256, lr=1e-3, gamma=0.98, lambda_=0.9)
        .rl_module(module_class=LSTMModule)
    )
    run_example(independent_agents(config, args.num_agents), args)
