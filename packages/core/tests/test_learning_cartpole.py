"""That PPO learns, judged on a separate evaluation with several seeds."""

import pytest

from rl_core import PPOConfig


def evaluated(config, iterations, num_episodes=20):
    algorithm = config.build()
    for _ in range(iterations):
        algorithm.train()
    result = algorithm.evaluate(num_episodes=num_episodes)
    algorithm.stop()
    return result["evaluation/episode_return_mean"]


CARTPOLE = (
    PPOConfig()
    .environment("CartPole-v1")
    .env_runners(num_envs_per_env_runner=8)
    .training(train_batch_size_per_learner=1024, minibatch_size=128, gamma=0.98, lambda_=0.9, lr=1e-3)
)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ppo_learns_cartpole_in_seconds(seed):
    assert evaluated(CARTPOLE.copy().debugging(seed=seed), 25) > 300


def test_an_untrained_policy_does_not_pass_for_a_trained_one():
    assert evaluated(CARTPOLE, 0) < 50


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ppo_learns_pendulum(seed):
    config = (
        PPOConfig()
        .environment("Pendulum-v1")
        .env_runners(num_envs_per_env_runner=8)
        .training(
            train_batch_size_per_learner=2048,
            minibatch_size=256,
            num_epochs=10,
            lr=1e-3,
            gamma=0.9,
            lambda_=0.95,
        )
        .debugging(seed=seed)
    )
    assert evaluated(config, 80) > -400
