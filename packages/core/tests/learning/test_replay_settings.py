import pytest

from rl_core import A2CConfig, DQNConfig, ModelSettings, SACConfig, TD3Config, TQCConfig
from rl_core.algorithms.dqn import DQNSettings
from rl_core.algorithms.sac import SACSettings
from rl_core.algorithms.td3 import TD3Settings
from rl_core.algorithms.tqc import TQCSettings
from rl_core.errors import ConfigError
from rl_core.learning.replay_settings import ReplayBufferSettings, ReplaySettings

OFF_POLICY = [DQNConfig, SACConfig, TD3Config, TQCConfig]


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (
            ReplaySettings,
            {"num_steps_sampled_before_learning_starts": 50_001},
            "expected at most replay_buffer_config.cap",
        ),
        (ReplaySettings, {"n_step": (3, 2)}, "n_step: got (3, 2), expected (low, high) with low <= high"),
        (ReplaySettings, {"n_step": 0}, "n_step: got 0, expected"),
        (ReplaySettings, {"n_step": (0, 2)}, "n_step: got (0, 2), expected"),
        (ReplaySettings, {"env_steps_per_gradient_step": 0.0}, "env_steps_per_gradient_step: got 0.0"),
        (ReplaySettings, {"tau": 0.0}, "tau: got 0.0, expected a number > 0 and <= 1"),
        (ReplaySettings, {"tau": 1.1}, "tau: got 1.1"),
        (ReplaySettings, {"target_network_update_freq": -1}, "target_network_update_freq: got -1"),
        (ReplaySettings, {"burn_in_len": -1}, "burn_in_len: got -1"),
        (ReplaySettings, {"train_batch_size_per_learner": 0}, "train_batch_size_per_learner: got 0"),
        (ReplaySettings, {"lr": ((5.0, 1.0), (5.0, 0.5))}, "lr: got"),
        (ReplayBufferSettings, {"capacity": 0}, "capacity: got 0"),
        (ReplayBufferSettings, {"type": "ranked"}, "type: got 'ranked', expected one of 'uniform', 'prioritized'"),
        (ReplayBufferSettings, {"alpha": 1.5}, "alpha: got 1.5"),
        (ReplayBufferSettings, {"beta": ((0.0, 0.4), (9.0, 1.2))}, "beta: got"),
        (DQNSettings, {"epsilon": 1.5}, "epsilon: got 1.5, expected values from 0 to 1"),
        (DQNSettings, {"num_atoms": 0}, "num_atoms: got 0"),
        (DQNSettings, {"td_error_loss_fn": "l1"}, "td_error_loss_fn: got 'l1'"),
        (SACSettings, {"initial_alpha": 0.0}, "initial_alpha: got 0.0"),
        (SACSettings, {"target_entropy": "low"}, "target_entropy: got 'low'"),
        (SACSettings, {"critic_lr": -1.0}, "critic_lr: got -1.0"),
        (SACSettings, {"alpha_lr": ((3.0, 1.0), (1.0, 0.5))}, "alpha_lr: got"),
        (TD3Settings, {"policy_delay": 0}, "policy_delay: got 0"),
        (TD3Settings, {"actor_lr": -1.0}, "actor_lr: got -1.0"),
        (TD3Settings, {"target_noise": -0.1}, "target_noise: got -0.1"),
        (TQCSettings, {"top_quantiles_to_drop_per_net": 25}, "expected less than n_quantiles, which is 25"),
        (TQCSettings, {"n_quantiles": 2}, "top_quantiles_to_drop_per_net: got 2, expected less than n_quantiles"),
    ],
)
def test_values_that_make_no_sense_are_refused(kind, settings, message):
    with pytest.raises(ConfigError) as error:
        kind(**settings)
    assert message in str(error.value)


@pytest.mark.parametrize("config", OFF_POLICY)
def test_the_section_refuses_at_once_and_keeps_what_it_had(config):
    config = config()
    with pytest.raises(ConfigError, match="learning would never start"):
        config.training(replay_buffer_config={"capacity": 10}, num_steps_sampled_before_learning_starts=11)
    assert config.diff() == {}
    config.training(replay_buffer_config={"capacity": 10}, num_steps_sampled_before_learning_starts=10)


def test_settings_of_the_buffer_change_one_by_one():
    config = SACConfig().training(replay_buffer_config={"type": "prioritized"})
    assert config.training.replay_buffer_config == ReplayBufferSettings(capacity=1_000_000, type="prioritized")
    config.set("training.replay_buffer_config.alpha", 0.5)
    assert config.training.replay_buffer_config.alpha == 0.5
    assert config.training.replay_buffer_config.type == "prioritized"


@pytest.mark.parametrize("config", OFF_POLICY)
def test_configs_survive_json(config):
    config = config().training(n_step=(1, 4), replay_buffer_config={"beta": ((0.0, 0.4), (9.0, 1.0))})
    back = type(config).from_dict(config.to_dict())
    assert back.training.settings == config.training.settings


@pytest.mark.parametrize("config", [SACConfig, TD3Config, TQCConfig])
@pytest.mark.parametrize("memory", ["use_lstm", "use_gru", "use_attention"])
def test_actor_critics_refuse_a_memory(config, memory):
    config = config().environment("Pendulum-v1").rl_module(model_config={memory: True})
    with pytest.raises(ConfigError, match="has no memory. Use PPO, A2C or DQN"):
        config.build()


def test_range_of_the_distribution_must_rise():
    with pytest.raises(ConfigError, match=r"v_min, v_max: got 5.0 and 5.0, expected v_min < v_max"):
        DQNConfig().environment("CartPole-v1").training(num_atoms=51, v_min=5.0, v_max=5.0).build()


def test_a_distribution_of_returns_with_a_memory_is_refused():
    config = DQNConfig().environment("CartPole-v1").training(num_atoms=51).rl_module(model_config={"use_lstm": True})
    with pytest.raises(ConfigError, match="num_atoms: got 51 together with use_lstm"):
        config.build()


@pytest.mark.parametrize(("config", "env"), [(DQNConfig, "CartPole-v1"), (SACConfig, "Pendulum-v1")])
def test_burn_in_without_a_memory_is_refused(config, env):
    with pytest.raises(ConfigError, match="burn_in_len: got 4, expected 0: .* has no memory"):
        config().environment(env).training(burn_in_len=4).build()


def test_sequences_longer_than_the_buffer_are_refused():
    model = ModelSettings(use_lstm=True, lstm_cell_size=4, max_seq_len=10)
    buffer = {"capacity": 31}
    config = DQNConfig().environment("CartPole-v1").rl_module(model_config=model)
    config.training(replay_buffer_config=buffer, num_steps_sampled_before_learning_starts=10)
    config.training(burn_in_len=21).build().stop()
    with pytest.raises(ConfigError, match="burn_in_len=22 plus max_seq_len=10 is 32 steps, .* capacity to at least 32"):
        config.training(burn_in_len=22).build()
    config.env_runners(num_envs_per_env_runner=2).training(burn_in_len=6).build().stop()
    with pytest.raises(ConfigError, match="holds 16 steps of each of 2 env slots, .* capacity to at least 34"):
        config.training(burn_in_len=7).build()


@pytest.mark.parametrize("n_step", [17, (1, 17)])
def test_windows_longer_than_the_buffer_are_refused(n_step):
    config = DQNConfig().environment("CartPole-v1").env_runners(num_envs_per_env_runner=2)
    config.training(n_step=n_step, replay_buffer_config={"capacity": 31}, num_steps_sampled_before_learning_starts=10)
    with pytest.raises(ConfigError, match="n_step: got .*17.* holds 16 steps of each of 2 env slots, .* at least 34"):
        config.build()
    config.training(replay_buffer_config={"capacity": 34}).build().stop()


def test_settings_of_replay_are_unknown_on_policy():
    with pytest.raises(ConfigError, match="there is no setting 'tau'"):
        A2CConfig().training(tau=0.5)
