"""Small configs of every algorithm but PPO, by what they try: modules, buffers, schedules."""

from rl_core import A2CConfig, APPOConfig, DQNConfig, IMPALAConfig, SACConfig, TD3Config, TQCConfig
from rl_core.testing.envs import ImageEnv, ObservationIsTimeEnv

RAINBOW = {
    "double_q": True,
    "dueling": True,
    "noisy": True,
    "num_atoms": 51,
    "n_step": 3,
    "v_min": 0.0,
    "v_max": 20.0,
    "replay_buffer_config": {"type": "prioritized", "beta": ((0.0, 0.4), (100.0, 1.0))},
}
PLAIN = {"double_q": False, "dueling": False}
EPSILON = ((0.0, 1.0), (100.0, 0.1))
LSTM = {"use_lstm": True, "lstm_cell_size": 6, "max_seq_len": 4}


def off_policy(config, env, *, model=None, **training):
    """A config that learns after 20 env steps, in iterations of 24, from a buffer that soon wraps around."""
    buffer = {"capacity": 70, **training.pop("replay_buffer_config", {})}
    small = {
        "replay_buffer_config": buffer,
        "num_steps_sampled_before_learning_starts": 20,
        "train_batch_size_per_learner": 8,
        "env_steps_per_gradient_step": 2.0,
    }
    return (
        config.environment(env)
        .env_runners(num_envs_per_env_runner=2)
        .training(**(small | training))
        .reporting(min_sample_timesteps_per_iteration=24)
        .rl_module(model_config={"fcnet_hiddens": (8,), **(model or {})})
    )


def on_policy(config, env, **model):
    return (
        config.environment(env)
        .reporting(min_sample_timesteps_per_iteration=80)
        .rl_module(model_config={"fcnet_hiddens": (8,), **model})
    )


CONFIGS = {
    "dqn plain": lambda: off_policy(DQNConfig(), "CartPole-v1", **PLAIN, epsilon=EPSILON),
    "dqn rainbow": lambda: off_policy(DQNConfig(), "CartPole-v1", **RAINBOW, target_network_update_freq=10),
    "dqn recurrent": lambda: off_policy(
        DQNConfig(), ObservationIsTimeEnv, model=LSTM, burn_in_len=2, n_step=(1, 3), epsilon=EPSILON
    ),
    "dqn recurrent, prioritised": lambda: off_policy(
        DQNConfig(), "CartPole-v1", model=LSTM, burn_in_len=3, noisy=True, replay_buffer_config={"type": "prioritized"}
    ),
    "dqn images": lambda: off_policy(
        DQNConfig(), ImageEnv, model={"conv_filters": ((4, 3, 2),), "post_fcnet_hiddens": (8,)}
    ),
    "dqn overlapped": lambda: off_policy(DQNConfig(), "CartPole-v1", overlap_sampling=True),
    "sac box": lambda: off_policy(SACConfig(), "Pendulum-v1", n_step=2),
    "sac discrete": lambda: off_policy(SACConfig(), "CartPole-v1", replay_buffer_config={"type": "prioritized"}),
    "td3": lambda: off_policy(TD3Config(), "Pendulum-v1", policy_delay=3),
    "tqc": lambda: off_policy(TQCConfig(), "Pendulum-v1", n_critics=3, n_quantiles=5),
    "a2c discrete": lambda: on_policy(A2CConfig(), "CartPole-v1"),
    "a2c box": lambda: on_policy(A2CConfig(), "Pendulum-v1"),
    "a2c recurrent": lambda: on_policy(A2CConfig(), "CartPole-v1", **LSTM),
    "impala discrete": lambda: on_policy(IMPALAConfig(), "CartPole-v1"),
    "impala recurrent": lambda: on_policy(IMPALAConfig(), "CartPole-v1", **LSTM),
    "appo box": lambda: on_policy(APPOConfig(), "Pendulum-v1"),
    "appo recurrent": lambda: on_policy(APPOConfig(), "CartPole-v1", **LSTM),
}
