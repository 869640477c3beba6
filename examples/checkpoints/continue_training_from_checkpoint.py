"""Training that is killed half way and goes on from its newest checkpoint as if nothing had happened.

Shows: a process of its own trains, and keeps its checkpoints with a `CheckpointKeeper`, which writes them in the
background. When its return is high enough this script kills it with SIGKILL, restores the newest checkpoint that is
whole with `Algorithm.from_checkpoint`, evaluates and trains on. With `--num-agents` several agents play side by side.
Criterion: killed at a return of 200 per agent. Restored, the next evaluation and the next iteration both return at
least 200 per agent; then an evaluation return of 475 is reached (two agents: 400, then 900).
Command: python examples/checkpoints/continue_training_from_checkpoint.py --as-test --seed 0
Reached: on seeds 0, 1, 2: killed at 201.2, 255.8, 227.9, restored 225.9, 324.2, 380.9, next iteration 212.2, 293.8,
246.8; then 500.0 each after 15,360, 22,528, 16,384 steps. `--num-agents 2`: killed at 408.5, 428.1, 416.4, restored
922.4, 993.8, 958.5, next iteration 450.1, 560.9, 458.6; then 964.0, 981.0, 968.8 after 18,432, 15,360, 18,432 steps.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from rl_core import Algorithm, AlgorithmConfig, PPOConfig
from rl_core.checkpoint import newest_checkpoint
from rl_core.cli.options import positive_int
from rl_core.example import example_parser, finish_example, train_example
from rl_core.runs.keeper import CheckpointKeeper
from rl_multiagent import MultiAgent, clone_agents

parser = example_parser(__doc__, env="CartPole-v1", stop_timesteps=200_000, honours=["--num-agents"])
parser.set_defaults(num_agents=1)
parser.add_argument("--kill-at", type=positive_int, default=200, metavar="R", help="return per agent; default: 200")
parser.add_argument("--train-into", type=Path, metavar="DIR", help="used by the script itself: train until killed")


def config_of(env: str, num_agents: int, seed: int) -> AlgorithmConfig:
    """Make the config: one agent, or several with a policy each."""
    config: AlgorithmConfig = (
        PPOConfig()
        .environment(env if num_agents == 1 else clone_agents(env, num_agents))
        .env_runners(num_envs_per_env_runner=8, metrics_num_episodes_for_smoothing=20)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, gamma=0.98, lambda_=0.9, lr=1e-3)
        .checkpointing(checkpoint_frequency=1)
        .debugging(seed=seed)
    )
    if num_agents > 1:
        names = {str(agent): f"p{agent}" for agent in range(num_agents)}
        config.use(MultiAgent(policies=tuple(names.values()), policy_mapping_fn=names))
    return config


def train_until_killed(config: AlgorithmConfig, folder: Path) -> None:
    """Train for ever, and say the return and the iteration of every checkpoint once it is on disk."""
    algorithm = config.build()
    keeper = CheckpointKeeper(algorithm, folder)
    while True:
        result = algorithm.train()
        keeper.after_iteration(result)
        algorithm.wait_for_checkpoints()
        print(result["env_runners/episode_return_mean"], flush=True)


def kill_at(goal: float, command: list[str], most: int) -> float:
    """Start a process, kill it when it reports a return that is high enough, or after so many reports; return that."""
    reached, number = 0.0, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout, 1):
            reached = float(line)
            if reached >= goal or number == most:
                process.kill()  # SIGKILL: it has no time to tidy up
                break
    if process.returncode >= 0:
        raise SystemExit(f"The training process ended by itself after {number} iterations.")
    return reached


if __name__ == "__main__":
    args = parser.parse_args()
    seed, goal = args.seed or 0, args.kill_at * args.num_agents
    config = config_of(args.env, args.num_agents, seed)
    if args.train_into is not None:
        train_until_killed(config, args.train_into)
    if args.stop_reward is None:
        args.stop_reward = 475 if args.num_agents == 1 else 450 * args.num_agents
    with tempfile.TemporaryDirectory() as folder:
        flags = {"--env": args.env, "--num-agents": args.num_agents, "--seed": seed, "--train-into": folder}
        command = [sys.executable, __file__, *(str(part) for pair in flags.items() for part in pair)]
        most = args.stop_iters or args.stop_timesteps // config.env_steps_per_iteration()
        reached = kill_at(goal, command, most)
        path = newest_checkpoint(Path(folder))
        restored = Algorithm.from_checkpoint(path)
        evaluated = restored.evaluate()["evaluation/episode_return_mean"]
        trained = restored.train()["env_runners/episode_return_mean"]
        restored.stop()
        outcome = train_example(config, args, prepare=lambda algorithm: algorithm.restore(path))
    finish_example(
        outcome,
        args,
        (
            evaluated >= goal,
            f"killed at {reached:.1f} after iteration {restored.iteration - 1}, restored {evaluated:.1f}",
        ),
        (trained >= goal, f"next iteration {trained:.1f}"),
    )
