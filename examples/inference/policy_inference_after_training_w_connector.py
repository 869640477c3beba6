"""A trained policy with memory and connectors, out of its checkpoint and out of an ONNX file.

Shows: the state that goes from one `act` to the next. It holds the LSTM's state and what the connectors remember, here
observations put on a scale by their mean and spread; those statistics are part of the checkpoint and of the ONNX file,
and stay as they were at the end of training. Needs `pip install "rl-core[onnx]"`.
Criterion: evaluation return of 200 (of 500) within 500,000 env steps, then a mean return of 200 over 10 episodes with
PyTorch and with onnxruntime; without memory 49 is about the most.
Command: python examples/inference/policy_inference_after_training_w_connector.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 222.8, 274.0, 234.9 after 30,165, 42,358, 42,399 steps (2.7 to 4.3 s); then 430.8, 464.2,
239.5 with PyTorch, and the same with onnxruntime.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Space

from rl_core import ConnectorState, ObsConnector, Policy, PPOConfig, Step
from rl_core.cli.options import positive_int
from rl_core.example import example_parser, finish_example, train_example
from rl_core.onnx import OnnxPolicy, export_onnx
from rl_core.records import Tree

parser = example_parser(__doc__, env="rl_envs:rl_envs/StatelessCartPole-v0", stop_reward=200, stop_timesteps=500_000)
parser.add_argument("--num-episodes-during-inference", type=positive_int, default=10, metavar="N", help="default: 10")
GOAL = 200.0
FIRST_SEED = 1000  # of the episodes played, none of which was trained on


@dataclass(frozen=True)
class Standardize(ObsConnector):
    """Observations less their mean, divided by their standard deviation, over all that were seen in training."""

    limit: float = 10.0
    """Larger results are cut, in standard deviations."""

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Vectors within the limit."""
        return Box(-self.limit, self.limit, observation_space.shape, np.float32)

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """Begin with one imagined observation of mean 0 and variance 1."""
        zeros = np.zeros(observation_space.shape)
        return ConnectorState(shared={"count": np.ones(()), "sum": zeros, "squares": zeros + 1})

    def observe(self, state: ConnectorState, step: Step) -> Tree:
        """Add the observations of all slots to the sums; called in training only."""
        obs = np.asarray(step.obs, np.float64)
        new = {"count": len(obs), "sum": obs.sum(0), "squares": (obs**2).sum(0)}
        return {name: value + new[name] for name, value in state.shared.items()}

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Scale the observations of all slots."""
        count, total, squares = (state.shared[name] for name in ("count", "sum", "squares"))
        mean = total / count
        scaled = (step.obs - mean) / np.sqrt(np.maximum(squares / count - mean**2, 1e-8))
        return state, replace(step, obs=scaled.clip(-self.limit, self.limit).astype(np.float32))

    def merge(self, shared: Sequence[Tree], base: Tree) -> Tree:
        """Add up what each runner has seen since `base`."""
        return {name: base[name] + sum(part[name] - base[name] for part in shared) for name in base}


def play(policy: Policy | OnnxPolicy, env: gymnasium.Env, num_episodes: int) -> float:
    """Return the mean return of some episodes."""
    total = 0.0
    for episode in range(num_episodes):
        obs, _ = env.reset(seed=FIRST_SEED + episode)
        state, done = None, False
        while not done:
            action, state = policy.act(obs, state)
            obs, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            done = terminated or truncated
    return total / num_episodes


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=16, gym_env_vectorize_mode="vector_entry_point")
        .env_runners(env_to_module_connector=(Standardize(),))
        .training(train_batch_size_per_learner=2048, minibatch_size=256, num_epochs=6)
        .training(lr=1e-3, gamma=0.995, lambda_=0.95)
        .rl_module(
            model_config={
                "use_lstm": True,
                "fcnet_hiddens": [64],
                "lstm_cell_size": 64,
                "max_seq_len": 64,
                "vf_share_layers": False,
            }
        )
    )
    outcome = train_example(config, args)

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = outcome.algorithm.save(Path(folder) / "checkpoint")
        policy = Policy.from_checkpoint(checkpoint)
        exported = OnnxPolicy(export_onnx(policy, Path(folder) / "policy.onnx"))

    with gymnasium.make(args.env) as env:
        means = {
            name: play(which, env, args.num_episodes_during_inference)
            for name, which in {"PyTorch": policy, "ONNX": exported}.items()
        }
    finish_example(outcome, args, *((mean >= GOAL, f"{name} {mean:.1f}") for name, mean in means.items()))
