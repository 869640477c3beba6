"""A bonus for observations far from all that were seen lately.

Shows: `DistanceCuriosity` keeps a store of observations and adds the distance to the nearest one to the rewards that
the learner sees. MountainCar's reward says nothing before the goal is reached; with `--no-curiosity` it never is.
Criterion: evaluation return of -140 within 1,000,000 env steps; the control must miss it.
Command: python examples/curiosity/euclidian_distance_based_curiosity.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -125.1, -124.3, -129.6 after 196,608, 212,992, 237,568 steps (9 to 37 s). Without the bonus:
-200.0 on each after 1,003,520 steps. (With normalised advantages the control finds the goal too: noise drives it.)
"""

from rl_connectors import DistanceCuriosity
from rl_core import PPOConfig
from rl_core.cli.options import number_above
from rl_core.example import example_parser, run_example

parser = example_parser(__doc__, env="MountainCar-v0", stop_reward=-140, stop_timesteps=1_000_000)
parser.add_argument("--intrinsic-reward-coeff", type=number_above(0.0, float), default=10.0, metavar="C", help="10")
parser.add_argument("--no-curiosity", action="store_true", help="the control: no bonus")

if __name__ == "__main__":
    args = parser.parse_args()
    bonus = DistanceCuriosity(coefficient=args.intrinsic_reward_coeff, capacity=2048, add_every=8)
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=16)
        .training(train_batch_size_per_learner=4096, minibatch_size=256, num_epochs=8, lr=1e-3, gamma=0.99)
        .training(lambda_=0.95, normalize_advantage=False)
        .learners(learner_connector=() if args.no_curiosity else (bonus,))
    )
    run_example(config, args)
