"""Small runs whose learners are in other processes."""

import torch

from rl_core import PPOConfig
from rl_core.testing.envs import CountdownEnv


def plain_descent(parameters, settings):
    """Steps in proportion to gradients, so that weights show them."""
    return torch.optim.SGD(parameters.values(), lr=0.1)


def config(kind=PPOConfig, env=CountdownEnv, *, num_learners=2, num_envs=4, batch=64, **training):
    size = batch // max(1, num_learners)
    return (
        kind()
        .environment(env, disable_env_checking=True)
        .env_runners(num_envs_per_env_runner=num_envs)
        .learners(num_learners=num_learners)
        .training(train_batch_size_per_learner=size, **({"minibatch_size": size} | training))
        .rl_module(model_config={"fcnet_hiddens": (8,)})
    )


def flat(weights):
    return torch.cat([tensor.flatten().cpu() for _, tensor in sorted(weights.tensors.items())]).clone()
