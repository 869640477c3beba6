"""One policy out of a checkpoint with several, into a run whose other policies begin anew.

Shows: `load_policy`. Agents learn to hold up pendulums, each with a policy of its own, and the run is saved. The same
run is begun again, but agent 0 has its policy of the checkpoint, value function included; the others begin anew.
Criterion: evaluation return (100 episodes) of -500, the sum of two agents, within 500,000 env steps in both runs; the
second needs fewer of them.
Command: python examples/checkpoints/restore_1_of_n_agents_from_checkpoint.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -452.2, -438.2, -490.6 after 45,056, 45,056, 40,960 steps; all anew -487.7, -448.4, -432.6
after 53,248, 53,248, 49,152 (28 to 36 s). With evaluations of 20 episodes noise decided who was first.
"""

import tempfile
from pathlib import Path

from rl_core import PPOConfig
from rl_core.example import example_parser, finish_example, one_run, train_example
from rl_multiagent import independent_agents, load_policy

parser = example_parser(__doc__, env="Pendulum-v1", stop_reward=-500, stop_timesteps=500_000, honours=["--num-agents"])
parser.set_defaults(num_agents=2, evaluation_duration=100)  # two runs are to be told apart

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3, gamma=0.9, lambda_=0.95)
    )
    independent_agents(config, args.num_agents)
    fresh = train_example(config, one_run(args, "fresh"), evaluate_every=4_000)
    with tempfile.TemporaryDirectory() as folder:
        path = fresh.algorithm.save(Path(folder) / "checkpoint")
        fresh.algorithm.stop()
        restored = train_example(
            config,
            one_run(args, "restored"),
            evaluate_every=4_000,
            prepare=lambda algorithm: load_policy(algorithm, "0", path),
        )
    sooner = fresh.reached and restored.env_steps < fresh.env_steps
    finish_example(restored, args, (sooner, f"all anew: {fresh.figure} after {fresh.env_steps:,} env steps"))
