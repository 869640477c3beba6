"""Learners of many agents on a GPU, where there is one."""

import numpy as np
import pytest
import torch
from naming_env import NamingEnv, make_config

from rl_core import DQNConfig
from rl_core.testing import check_algorithm
from rl_multiagent import COMAConfig, GroupedAgents, MAPPOConfig, MultiAgent, PolicySpec, QMIXConfig

if not torch.cuda.is_available():
    pytest.skip("no CUDA device here", allow_module_level=True)


def team(env_config):
    return GroupedAgents(NamingEnv(**env_config), {"team": ("left", "right")})


def grouped(kind, **training):
    config = kind().environment(team).env_runners(num_envs_per_env_runner=4).training(lr=0.01, **training)
    return config.rl_module(model_config={"fcnet_hiddens": (8,)}).use(MultiAgent())


REPLAY = {"num_steps_sampled_before_learning_starts": 100, "env_steps_per_gradient_step": 10.0}
MIXED = {"left": PolicySpec(), "right": PolicySpec(algorithm=DQNConfig)}
CONFIGS = {
    "ppo": make_config,
    "ppo and dqn": lambda: make_config(MultiAgent(policies=MIXED)),
    "mappo": lambda: make_config(algorithm=MAPPOConfig).training(critic_hiddens=(8,)),
    "qmix": lambda: grouped(QMIXConfig, **REPLAY).reporting(min_sample_timesteps_per_iteration=100),
    "coma": lambda: grouped(COMAConfig, train_batch_size_per_learner=100, minibatch_size=50),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_of_many_agents_conforms_with_its_learners_on_a_gpu(name):
    check_algorithm(CONFIGS[name]().learners(num_gpus_per_learner=1))


@pytest.mark.parametrize("name", CONFIGS)
def test_learners_on_a_gpu_learn_what_those_on_a_cpu_do(name):
    gpu, cpu = CONFIGS[name]().learners(num_gpus_per_learner=1).build(), CONFIGS[name]().build()
    for _ in range(2):
        got, expected = gpu.train(), cpu.train()
    for policy, learner in gpu.learner.learners.items():
        assert {parameter.device.type for parameter in learner.module.parameters()} == {"cuda"}
        for key, tensor in cpu.learner.learners[policy].module.state_dict().items():
            torch.testing.assert_close(learner.module.state_dict()[key].cpu(), tensor, rtol=1e-2, atol=1e-3)
    for key, value in expected.items():
        if key.startswith("learner/"):
            np.testing.assert_allclose(got[key], value, rtol=5e-2, atol=5e-3, err_msg=key)
