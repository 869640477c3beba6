"""A bonus for states that were seldom seen, in the learner's pipeline.

Shows: `CountBasedCuriosity` adds coefficient / sqrt(visits) to the rewards the learner sees; results and evaluations
have the env's own. The reward of this frozen lake is one goal far away; with `--no-curiosity` it is never found.
Criterion: evaluation return of 0.99 within 1,000,000 env steps; the control must miss it.
Command: python examples/curiosity/count_based_curiosity.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 1.0 after 172,032, 49,152, 61,440 steps (3 to 9 s). Without the bonus: 0.0 on each after
1,001,472 steps.
"""

from rl_connectors import CountBasedCuriosity
from rl_core import PPOConfig
from rl_core.cli.options import number_above
from rl_core.example import example_parser, run_example

# One way leads to the goal, 14 steps long, and no more are allowed: chance finds it once in 4 ** 14 episodes.
MAP = ("SFFHHFFH", "HHFFHFHH", "FHHFFHHF", "HHHHFFHH", "HFHHHFFH", "HHHFHHFH", "FHHHHHFF", "HHFHHHHG")

parser = example_parser(__doc__, env="FrozenLake-v1", stop_reward=0.99, stop_timesteps=1_000_000)
parser.add_argument("--intrinsic-reward-coeff", type=number_above(0.0, float), default=0.1, metavar="C", help="0.1")
parser.add_argument("--no-curiosity", action="store_true", help="the control: no bonus")

if __name__ == "__main__":
    args = parser.parse_args()
    bonus = CountBasedCuriosity(coefficient=args.intrinsic_reward_coeff)
    config = (
        PPOConfig()
        .environment(args.env, env_config={"desc": MAP, "is_slippery": False, "max_episode_steps": 14})
        .env_runners(num_envs_per_env_runner=16)
        .training(train_batch_size_per_learner=2048, minibatch_size=256, num_epochs=6, lr=1e-3)
        .learners(learner_connector=() if args.no_curiosity else (bonus,))
    )
    run_example(config, args)
