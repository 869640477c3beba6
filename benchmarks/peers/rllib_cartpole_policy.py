"""Write `examples/rl_modules/data/rllib_cartpole_policy`: a policy of RLlib that learned a little.

Made with ray[rllib] 2.60.0, torch 2.15 and gymnasium 1.2.2 in an environment of its own:

    python rllib_cartpole_policy.py rllib_cartpole_policy

The argument is the folder to write. The pickle names the folder of that environment, which was replaced afterwards.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPOConfig

STOP_RETURN = 70.0
"""Mean training return; low, so that the example that goes on from it has something left to learn."""


def main(folder: str) -> None:
    """Train, write the checkpoint, and beside it 64 observations with the logits and values RLlib computes of them."""
    model = {"fcnet_hiddens": [32, 32], "fcnet_activation": "relu", "vf_share_layers": False}
    config = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0).debugging(seed=0)
    config = config.api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
    algorithm = config.training(lr=1e-3, model=model).build_algo()
    while algorithm.train()["env_runners"]["episode_return_mean"] < STOP_RETURN:
        pass
    policy = algorithm.get_policy()
    policy.export_checkpoint(folder)
    obs = np.random.default_rng(0).uniform(-0.5, 0.5, (64, 4)).astype(np.float32)
    with torch.no_grad():
        logits, _ = policy.model({"obs": torch.from_numpy(obs), "obs_flat": torch.from_numpy(obs)})
        value = policy.model.value_function()
    np.savez_compressed(f"{folder}/expected.npz", obs=obs, logits=logits.numpy(), value=value.numpy())
    algorithm.stop()


if __name__ == "__main__":
    main(sys.argv[1])
