"""What the scripts in `examples/` share: the common flags, and training until a separate evaluation reaches a goal.

    parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_timesteps=200_000)

    if __name__ == "__main__":
        args = parser.parse_args()
        run_example(PPOConfig().environment(args.env).training(lr=1e-3), args)

A script that goes on after training calls `train_example`, does its work, and ends with `finish_example`; one that
trains several times gives each run its flags by `one_run`. One whose runs are trials of Ray Tune takes `trials_config`,
`trials_run_config` and `finish_trials`.
"""

from rl_core.example.parser import ExampleParser, example_parser
from rl_core.example.run import (
    Criterion,
    ExampleOutcome,
    Verdict,
    finish_example,
    one_run,
    run_example,
    train_example,
)
from rl_core.example.trials import finish_trials, trials_config, trials_folder, trials_run_config

__all__ = [
    "Criterion",
    "ExampleOutcome",
    "ExampleParser",
    "Verdict",
    "example_parser",
    "finish_example",
    "finish_trials",
    "one_run",
    "run_example",
    "train_example",
    "trials_config",
    "trials_folder",
    "trials_run_config",
]
