"""An env of PettingZoo in which each agent has a policy of its own.

Shows: a function that makes a parallel env of PettingZoo is all that `environment` needs. In simple_speaker_listener of
MPE one agent knows the goal and speaks, the other hears it and moves; they have other spaces and the same reward. What
the speaker learns with differs, by the settings of its `PolicySpec`.
Needs pip install "rl-multiagent[mpe]" rl-connectors.
Criterion: within 100,000 env steps an evaluation return (sum over agents, 200 episodes) that is above that of random
actions by 5 standard errors, and at least what RLlib 2.60's PPO reaches with 100,000: -29.4, -29.4, -30.8 on seeds 0,
1, 2, each with a standard error of 1.6 (benchmarks/peers/rllib_mpe.py simple_speaker_listener_v4 --policies own).
Command: python examples/multi_agent/pettingzoo_independent_learning.py --as-test --seed 0
Reached: on seeds 0, 1, 2: -27.5, -25.5, -26.9 after 100,000, 40,000, 60,000 steps (74 to 123 s, the machine shared);
all are 9 standard errors above random, -70.4. With the same settings for both (hidden layers, lr 1e-3, entropy bonus)
the speaker called two of the three landmarks alike: -34.0, -33.0 on seeds 1, 2 after 100,000.
"""

from collections.abc import Mapping
from typing import Any

from mpe2 import simple_speaker_listener_v4
from pettingzoo import ParallelEnv

from rl_connectors import MeanStdFilter
from rl_core import Algorithm, PPOConfig
from rl_core.example import Verdict, example_parser, run_example
from rl_multiagent import MultiAgent, PolicySpec
from rl_multiagent.selfplay import UniformRandom

AGENTS = ("speaker_0", "listener_0")
# A speaker that begins near chance learns to call two goals alike: there is little to gain from the third message until
# the listener heeds it, and nothing to heed until it is used. So it begins with a strong preference for each goal (a
# table: no hidden layers), keeps no entropy, and credits a message with all that follows; steps on large minibatches
# average out that most of a return is owed to where the landmarks lie, which it does not see.
SPEAKER = {
    "rl_module.model_config.fcnet_hiddens": (),
    "rl_module.model_config.policy_head_gain": 2.0,
    "training.entropy_coeff": 0.0,
    "training.lr": 0.01,
    "training.minibatch_size": 1000,
    "training.gamma": 0.95,
    "training.lambda_": 1.0,
}


def make_env(_: dict[str, Any]) -> ParallelEnv:
    """Make the env; episodes are cut after 25 steps."""
    return simple_speaker_listener_v4.parallel_env(max_cycles=25)


parser = example_parser(__doc__, stop_reward=-29.4, stop_timesteps=100_000)
parser.set_defaults(evaluation_duration=200)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(make_env)
        .env_runners(num_envs_per_env_runner=8, env_to_module_connector=(MeanStdFilter(),))
        .training(train_batch_size_per_learner=1000, minibatch_size=250, num_epochs=10, gamma=0.9, lambda_=0.9)
        .training(lr=2e-3, entropy_coeff=[[0, 0.01], [100_000, 0.0]])
        .rl_module(model_config={"fcnet_hiddens": (64, 64), "fcnet_activation": "relu"})
        .use(MultiAgent(policies={"speaker_0": PolicySpec(settings=SPEAKER), "listener_0": PolicySpec()}))
    )
    rules = MultiAgent(policies=dict.fromkeys(AGENTS, PolicySpec(module_class=UniformRandom)))
    random = PPOConfig().environment(make_env).use(rules).build().evaluate(num_episodes=args.evaluation_duration)

    def above_random(_: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """Compare with random actions, in standard errors."""
        error = (result["evaluation/episode_return_std"] ** 2 + random["evaluation/episode_return_std"] ** 2) ** 0.5
        error /= args.evaluation_duration**0.5
        above = (result["evaluation/episode_return_mean"] - random["evaluation/episode_return_mean"]) / error
        return above >= 5, f"{above:.1f} standard errors above random ({random['evaluation/episode_return_mean']:.1f})"

    run_example(config, args, criterion=above_random, evaluate_every=20_000)
