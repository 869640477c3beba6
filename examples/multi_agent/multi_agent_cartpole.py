"""Several agents in one env, each with a policy and a learner of its own, or sharing some.

Shows: `clone_agents` lets n agents play CartPole side by side; `MultiAgent` gives each a policy. `--num-policies` makes
agents share: agent i is played by policy i modulo that number. Policies of equal structure act as one batch.
Criterion: evaluation return of 900, the sum of two agents, within 200,000 env steps.
Command: python examples/multi_agent/multi_agent_cartpole.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 982.2, 981.0, 989.7 after 20,480, 15,360, 20,480 steps (17 to 23 s).
"""

from rl_core import PPOConfig
from rl_core.cli.options import positive_int
from rl_core.example import example_parser, run_example
from rl_multiagent import MultiAgent, clone_agents

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=900, stop_timesteps=200_000, honours=["--num-agents"])
parser.set_defaults(num_agents=2)
parser.add_argument("--num-policies", type=positive_int, metavar="N", help="default: one for each agent")

if __name__ == "__main__":
    args = parser.parse_args()
    num_policies = args.num_policies or args.num_agents
    mapping = {str(agent): f"p{agent % num_policies}" for agent in range(args.num_agents)}
    config = (
        PPOConfig()
        .environment(clone_agents(args.env, args.num_agents))
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, gamma=0.98, lambda_=0.9, lr=1e-3)
        .use(MultiAgent(policies=tuple(sorted(set(mapping.values()))), policy_mapping_fn=mapping))
    )
    run_example(config, args)
