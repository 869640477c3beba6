"""What a type checker knows of the sections of a config. Not run: `just types` reads it.

Each `type: ignore` stands for an error that mypy must find; an ignore without its error is an error itself.
"""

from rl_core import Algorithm, PPOConfig

config = PPOConfig().environment("CartPole-v1", env_config={}).training(lr=1e-3, num_epochs=3)
algorithm: Algorithm = config.environment("CartPole-v1").training(lambda_=0.9).evaluation(explore=False).build()
config.training(lr="fast")  # type: ignore[arg-type]
config.training(learning_rate=1e-3)  # type: ignore[call-arg]
config.env_runners(num_envs_per_env_runner=2).debugging(seed=1.5)  # type: ignore[arg-type]
