"""A bonus for transitions that a learned model does not foresee, with PPO and with DQN.

Shows: `IntrinsicCuriosity` (the intrinsic curiosity module, ICM) brings networks of its own into the learner, with a
loss and an optimizer of their own; the env runner never gets them. The error of the forward model is added to the
rewards that the learner sees; DQN's replay buffer keeps it as it was when the step was taken. The only reward of this
open lake lies in the far corner, 22 steps away, and no more are allowed: with `--no-curiosity` nobody gets far.
Criterion: within 1,000,000 env steps an evaluation return of 0.9, or a greatest distance from the start of 12 as the
mean over the episodes of five evaluations in a row (the corner is at 15.6); the control must miss both. (One evaluation
is not enough: now and then a DQN that knows no reward goes far by chance.)
Command: python examples/curiosity/intrinsic_curiosity_model_based_curiosity.py --as-test --algo ppo --seed 0
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from rl_connectors import IntrinsicCuriosity
from rl_core import Algorithm, DQNConfig, PPOConfig
from rl_core.cli.options import number_above
from rl_core.example import example_parser, run_example

SIZE = 12
LAKE = {"desc": ["S" + "F" * 11, *["F" * 12] * 10, "F" * 11 + "G"], "is_slippery": False, "max_episode_steps": 22}
GOAL_RETURN, GOAL_DISTANCE = 0.9, 12.0

parser = example_parser(__doc__, algorithms=("ppo", "dqn"), env="FrozenLake-v1", stop_timesteps=1_000_000)
parser.add_argument("--intrinsic-reward-coeff", type=number_above(0.0, float), default=0.3, metavar="C", help="0.3")
parser.add_argument("--no-curiosity", action="store_true", help="the control: no bonus")


class FarEnough:
    """Judges by the return of an evaluation, or by the distances in as many episodes, over five evaluations."""

    def __init__(self) -> None:
        """Begin without evaluations."""
        self.recent: deque[float] = deque(maxlen=5)

    def __call__(self, algorithm: Algorithm, result: Mapping[str, Any]) -> tuple[bool, str]:
        """Judge the newest evaluation and those before it."""
        self.recent.append(mean_distance(algorithm, int(result["evaluation/num_episodes"])))
        distance, mean_return = np.mean(self.recent), result["evaluation/episode_return_mean"]
        far = len(self.recent) == self.recent.maxlen and distance >= GOAL_DISTANCE
        return bool(far or mean_return >= GOAL_RETURN), f"return {mean_return:.2f}, distance {distance:.2f}"


def mean_distance(algorithm: Algorithm, num_episodes: int) -> float:
    """Play separate episodes with actions drawn from the policy; return how far from the start they came at most."""
    settings = algorithm.config.environment.settings
    env = gymnasium.make(settings.env, **settings.env_config)
    distances = np.zeros(num_episodes)
    for episode in range(num_episodes):
        (obs, _), state, done = env.reset(seed=episode), None, False
        while not done:
            action, state = algorithm.policy.act(obs, state, explore=True)
            obs, _, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            distances[episode] = max(distances[episode], np.hypot(*divmod(int(obs), SIZE)))
    env.close()
    return float(distances.mean())


if __name__ == "__main__":
    args = parser.parse_args()
    if args.algo == "ppo":
        config = PPOConfig().training(train_batch_size_per_learner=4096, minibatch_size=512, num_epochs=6, lr=1e-3)
        config.training(normalize_advantage=False)
    else:
        config = DQNConfig().training(train_batch_size_per_learner=512, env_steps_per_gradient_step=32, lr=1e-3)
        config.training(n_step=3, target_network_update_freq=4096, epsilon=[[0, 1], [100_000, 0.05]])
        config.training(replay_buffer_config={"capacity": 50_000}).rl_module(model_config={"fcnet_hiddens": (128,)})
        config.env_runners(rollout_fragment_length=16)
    config.environment(args.env, env_config=LAKE).env_runners(num_envs_per_env_runner=64)
    bonus = IntrinsicCuriosity(coefficient=args.intrinsic_reward_coeff, num_epochs=4, beta=0.5)
    config.learners(learner_connector=() if args.no_curiosity else (bonus,))
    run_example(config, args, criterion=FarEnough(), evaluate_every=20_000)
