"""PPO with one optimiser for the policy and another one, with its own learning rate, for the value function.

Shows: `optimizer_fn`, which gets the parameters by name and returns torch optimisers; each parameter must be in one of
them. All of them step together, on the gradients of one loss.
Criterion: evaluation return of 450 on CartPole-v1 within 100,000 env steps.
Command: python examples/learners/separate_vf_lr_and_optimizer.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 500.0, 480.4, 500.0 after 20,480, 15,360, 25,600 steps (5 to 7 s).
"""

from collections.abc import Mapping

from torch.nn import Parameter
from torch.optim import Adam, Optimizer, RMSprop

from rl_core import PPOConfig
from rl_core.algorithms.ppo import PPOSettings
from rl_core.example import example_parser, run_example

VALUE_LR = 5e-4

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=450, stop_timesteps=100_000)


def two_optimizers(parameters: Mapping[str, Parameter], settings: PPOSettings) -> list[Optimizer]:
    """Sort the parameters by whether they belong to the value function."""
    value = [parameter for name, parameter in parameters.items() if name.startswith("value.")]
    policy = [parameter for name, parameter in parameters.items() if not name.startswith("value.")]
    return [Adam(policy, lr=settings.lr, eps=settings.adam_epsilon), RMSprop(value, lr=VALUE_LR)]


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3, gamma=0.98, lambda_=0.9)
        .learners(optimizer_fn=two_optimizers)
    )
    run_example(config, args)
