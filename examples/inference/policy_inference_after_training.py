"""A trained policy taken out of its checkpoint, and out of an ONNX file, and used in a plain gymnasium loop.

Shows: `Policy.from_checkpoint`, which needs neither the training config nor the algorithm; `export_onnx`, which
compares the file with PyTorch before it keeps it; and `OnnxPolicy`, which runs it with onnxruntime. Both take the most
probable action. Needs `pip install "rl-core[onnx]"`.
Criterion: evaluation return of 450 (of 500) within 300,000 env steps, then a mean return of 450 over 10 episodes with
each of the two.
Command: python examples/inference/policy_inference_after_training.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 500.0, 500.0, 492.8 after 15,360, 20,480, 15,360 steps (1.3 to 1.7 s); then 500.0 with each
of the two on all seeds.
"""

import tempfile
from pathlib import Path

import gymnasium

from rl_core import Policy, PPOConfig
from rl_core.cli.options import positive_int
from rl_core.example import example_parser, finish_example, train_example
from rl_core.onnx import OnnxPolicy, export_onnx

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_timesteps=300_000)
parser.add_argument("--num-episodes-during-inference", type=positive_int, default=10, metavar="N", help="default: 10")
GOAL = 450.0
FIRST_SEED = 1000  # of the episodes played, none of which was trained on


def play(policy: Policy | OnnxPolicy, env: gymnasium.Env, num_episodes: int) -> float:
    """Return the mean return of some episodes."""
    total = 0.0
    for episode in range(num_episodes):
        obs, _ = env.reset(seed=FIRST_SEED + episode)
        done = False
        while not done:
            action, _ = policy.act(obs)  # a policy without memory: the state need not be kept
            obs, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            done = terminated or truncated
    return total / num_episodes


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3, gamma=0.98, lambda_=0.9)
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
