"""Two actions of which the second answers the first: autoregressive heads against independent ones.

Shows: what a second action gains by being drawn given the sampled first one. In CorrelatedActionsEnv of rl_envs, with
one step per episode, a1 should bring o + a1 near 1, and a2 should cancel the o + a1 that has come out:
    reward = -|1 - (o + a1)| - |o + a1 + a2|
Where a1 follows from o, a2 can follow from o as well, and independent heads are as good (-1/4 at best): there is only
a difference while a1 is random. So a fifth of it is drawn uniformly (`--floor 0.2`), as by a policy that must not
cease to explore. Then the best returns are
    autoregressive: -1/4 - 0.2 * (5/6 - 1/4) = -0.367; independent: about -0.367 - 0.2 * 5/6 = -0.53,
5/6 being the mean distance of a uniform a1 from the best one: independent heads cannot meet the criterion, however long
they learn. With --floor 0 both can.
Criterion: evaluation return (1,000 episodes) of -0.45 within 2,000,000 env steps. Control: with --independent-heads it
stays below.
Command: python examples/actions/autoregressive_actions.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -0.428, -0.449, -0.447 after 36,864, 30,720, 30,720 steps (2 s). With --independent-heads not
in 2,000,000 steps (110 s): -0.600, -0.621, -0.661 at the end.
"""

import sys
from pathlib import Path

from rl_core import PPOConfig
from rl_core.example import example_parser, run_example

sys.path.insert(0, str(Path(__file__).parent.parent / "rl_modules"))
from autoregressive_actions_rl_module import TwoActionsModule  # a neighbour, not a package

parser = example_parser(
    __doc__, env="rl_envs:rl_envs/CorrelatedActions-v0", stop_reward=-0.45, stop_timesteps=2_000_000
)
parser.set_defaults(evaluation_duration=1000)  # of one step each
parser.add_argument("--independent-heads", action="store_true", help="the control: a2 is drawn without a look at a1")
parser.add_argument("--floor", type=float, default=0.2, metavar="F", help="uniform share of a1; default: 0.2")

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=32)
        .training(train_batch_size_per_learner=2048, minibatch_size=256, lr=2e-3, gamma=0.0)
        .rl_module(
            module_class=TwoActionsModule,
            model_config={"autoregressive": not args.independent_heads, "floor": args.floor},
        )
    )
    run_example(config, args)
