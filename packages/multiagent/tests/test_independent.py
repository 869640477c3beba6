from rl_core import PPOConfig
from rl_multiagent import independent_agents


def make_config():
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=40, minibatch_size=20, num_epochs=1, lr=0.002)
        .rl_module(model_config={"fcnet_hiddens": (8,)})
    )


def test_each_agent_has_a_policy_with_the_settings_of_the_config():
    algorithm = independent_agents(make_config(), 3).build()
    result = algorithm.train()
    assert list(algorithm.env_runner.policies) == ["0", "1", "2"]
    assert [result[f"learner/{name}/lr"] for name in "012"] == [0.002] * 3


def test_without_a_number_of_agents_the_run_stays_as_it_is():
    config = make_config()
    assert independent_agents(config, 0) is config
    assert list(config.build().env_runner.policies) == ["default"]
