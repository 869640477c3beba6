"""What settings are called in RLlib and Stable-Baselines3, for the messages about names that are none here."""

from __future__ import annotations

from typing import Final

NAMES_ELSEWHERE: Final = {
    "batch_size": "train_batch_size_per_learner",
    "buffer_size": "replay_buffer_config={'capacity': ...}",
    "clip_range": "clip_param",
    "ent_coef": "entropy_coeff",
    "fcnet_hiddens": "rl_module(model_config={'fcnet_hiddens': ...})",
    "framework": "torch always",
    "gae_lambda": "lambda_",
    "ignore_env_runner_failures": "restart_failed_env_runners",
    "learning_rate": "lr",
    "learning_starts": "num_steps_sampled_before_learning_starts",
    "max_grad_norm": "grad_clip",
    "mini_batch_size_per_learner": "minibatch_size",
    "model": "rl_module(model_config=...)",
    "n_envs": "num_envs_per_env_runner",
    "n_epochs": "num_epochs",
    "n_steps": "train_batch_size_per_learner",
    "net_arch": "rl_module(model_config={'fcnet_hiddens': ...})",
    "num_envs": "num_envs_per_env_runner",
    "num_rollout_workers": "num_env_runners",
    "num_sgd_iter": "num_epochs",
    "num_workers": "num_env_runners",
    "observation_filter": "a connector in env_to_module_connector",
    "policy_kwargs": "rl_module(model_config=...)",
    "recreate_failed_env_runners": "restart_failed_env_runners",
    "rollout_batch_size": "train_batch_size_per_learner",
    "sgd_minibatch_size": "minibatch_size",
    "target_update_interval": "target_network_update_freq",
    "train_batch_size": "train_batch_size_per_learner",
    "vf_coef": "vf_loss_coeff",
}
"""Name there -> what to write here."""
