"""Training on envs that crash and stall.

Shows: `fault_tolerance(...)`. By default a remote runner whose env raises, kills its process or stalls for longer than
`sample_timeout_s` is replaced in the background while the other goes on. With `--restart-sub-env`, an env that raises
is made anew alone, here in this process. Every recovery is counted in the results.
Criterion: evaluation return of 450 (of 500) for one agent, or 900 of two with `--num-agents 2`, within 2,000,000
env steps, and something was recovered from.
Command: python examples/fault_tolerance/crashing_and_stalling_env.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 479.8, 459.6, 500.0 after 20,480, 10,240, 20,480 steps with 7, 1, 9 recoveries; the same with
`--stall`; with `--restart-sub-env` 500.0, 466.2, 500.0 after 30,714, 15,355, 20,476.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_core import Algorithm, PPOConfig
from rl_core.example import Verdict, example_parser, run_example
from rl_envs import Faulty
from rl_multiagent import MultiAgent, clone_agents

PER_AGENT = 450.0
RECOVERIES = ("env_runners/num_env_runner_restarts", "env_runners/num_env_restarts")

parser = example_parser(__doc__, env="CartPole-v1", stop_timesteps=2_000_000, honours=["--num-agents"])
parser.add_argument("--restart-sub-env", action="store_true", help="make envs that raise anew alone, in this process")
parser.add_argument("--stall", action="store_true", help="envs stall instead of raising, for longer than the time-out")


if __name__ == "__main__":
    args = parser.parse_args()
    if args.num_env_runners is None:
        args.num_env_runners = 0 if args.restart_sub_env else 2
    goal = PER_AGENT * max(1, args.num_agents)

    def criterion(algorithm: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """The return, and how often something failed and was put right."""
        mean, recoveries = result["evaluation/episode_return_mean"], sum(int(result[name]) for name in RECOVERIES)
        return mean >= goal and recoveries > 0, f"return {mean:.1f}, goal {goal:g}; {recoveries} recoveries"

    faults: dict[str, Any] = {"p_crash": 0.0 if args.stall else 0.0002}
    if args.stall:
        faults |= {"p_stall": 0.0002, "stall_seconds": 60.0}
    config = (
        PPOConfig()
        .environment(Faulty, env_config={"env": args.env, **faults}, disable_env_checking=True)
        .env_runners(num_envs_per_env_runner=8, sample_timeout_s=3.0)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3, gamma=0.98, lambda_=0.9)
        .evaluation(evaluation_env_config={"p_crash": 0.0, "p_stall": 0.0})
        .fault_tolerance(restart_failed_sub_environments=args.restart_sub_env)
    )
    if args.num_agents:
        policies = tuple(f"p{agent}" for agent in range(args.num_agents))
        mapping = {str(agent): policy for agent, policy in enumerate(policies)}
        config.environment(clone_agents(Faulty, args.num_agents))
        config.use(MultiAgent(policies=policies, policy_mapping_fn=mapping))
    run_example(config, args, criterion=criterion)
