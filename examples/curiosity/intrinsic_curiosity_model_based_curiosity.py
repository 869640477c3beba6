"""A bonus for transitions that a learned model does not foresee, with PPO and with DQN.

Shows: `IntrinsicCuriosity` (the intrinsic curiosity module, ICM) brings networks of its own into the learner, with a
loss and an optimizer of their own; the env runner never gets them. The error of the forward model is added to the
rewards that the learner sees; DQN's replay buffer keeps it as it was when the step was taken. The only reward of this
lake lies in the far corner, 22 steps away on a strip between holes, and no more steps are allowed: with
`--no-curiosity` nobody gets far. (Without holes that is no test of DQN: the policy of a Q-network that knows no reward
drifts, and on seed 0 it found the corner by chance.)
Criterion: within 1,000,000 env steps an evaluation with a return of 0.9, or in which the greatest distance from the
start is 12 in the mean (the corner is at 15.6); the control must miss both.
Command: python examples/curiosity/intrinsic_curiosity_model_based_curiosity.py --as-test --algo ppo --seed 0
Reached: on seeds 0, 1, 2: with PPO distances of 12.7, 13.6, 12.4 after 389,120, 122,880, 102,400 steps (13 to 55 s);
with DQN 12.2, 12.1, 13.5 after 471,040, 122,880, 122,880 steps (20 to 74 s). Without the bonus, after 1,000,000 steps:
PPO 2.2, 2.2, 2.3, DQN 0.3, 2.0, 2.0, and a return of 0 each.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from rl_connectors import IntrinsicCuriosity
from rl_core import Algorithm, DQNConfig, PPOConfig
from rl_core.cli.options import number_above
from rl_core.example import example_parser, run_example

SIZE = 12
# A strip of ice along the diagonal, three wide, between holes.
ROWS = ["".join("F" if abs(row - column) < 2 else "H" for column in range(SIZE)) for row in range(SIZE)]
LAKE = {"desc": ["S" + ROWS[0][1:], *ROWS[1:-1], ROWS[-1][:-1] + "G"], "is_slippery": False, "max_episode_steps": 22}
GOAL_RETURN, GOAL_DISTANCE = 0.9, 12.0

parser = example_parser(__doc__, algorithms=("ppo", "dqn"), env="FrozenLake-v1", stop_timesteps=1_000_000)
parser.add_argument("--intrinsic-reward-coeff", type=number_above(0.0, float), default=0.3, metavar="C", help="0.3")
parser.add_argument("--no-curiosity", action="store_true", help="the control: no bonus")


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


def far_enough(algorithm: Algorithm, result: Mapping[str, Any]) -> tuple[bool, str]:
    """Judge an evaluation by its return, or by the distances in as many episodes."""
    distance = mean_distance(algorithm, int(result["evaluation/num_episodes"]))
    mean_return = result["evaluation/episode_return_mean"]
    return (
        bool(distance >= GOAL_DISTANCE or mean_return >= GOAL_RETURN),
        f"return {mean_return:.2f}, distance {distance:.2f}",
    )


if __name__ == "__main__":
    args = parser.parse_args()
    if args.algo == "ppo":
        config = PPOConfig().training(train_batch_size_per_learner=4096, minibatch_size=512, num_epochs=6, lr=1e-3)
        # Where there are no rewards, only the entropy keeps noise from driving the policy, now and then to the goal.
        config.training(normalize_advantage=False, entropy_coeff=0.01)
    else:
        config = DQNConfig().training(train_batch_size_per_learner=512, env_steps_per_gradient_step=32, lr=1e-3)
        config.training(n_step=3, target_network_update_freq=4096, epsilon=[[0, 1], [50_000, 0.01]])
        config.training(replay_buffer_config={"capacity": 50_000}).rl_module(model_config={"fcnet_hiddens": (128,)})
        config.env_runners(rollout_fragment_length=16)
    config.environment(args.env, env_config=LAKE).env_runners(num_envs_per_env_runner=64)
    bonus = IntrinsicCuriosity(coefficient=args.intrinsic_reward_coeff, num_epochs=4, beta=0.5)
    config.learners(learner_connector=() if args.no_curiosity else (bonus,))
    run_example(config, args, criterion=far_enough, evaluate_every=20_000)
