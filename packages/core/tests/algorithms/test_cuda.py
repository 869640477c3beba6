"""Learners on a GPU, where there is one: they learn what those on a CPU learn, and the same checkpoints."""

import numpy as np
import pytest
import torch
from small_configs import CONFIGS, on_policy

from rl_core import Algorithm, Policy, PPOConfig
from rl_core.testing import check_algorithm
from rl_core.testing.envs import ImageEnv
from rl_core.tree import tree_leaves

if not torch.cuda.is_available():
    pytest.skip("no CUDA device here", allow_module_level=True)

IMAGES = {"conv_filters": ((4, 3, 2),), "post_fcnet_hiddens": (8,)}
ATTENTION = {"use_attention": True, "attention_dim": 8, "attention_window": 4, "max_seq_len": 4}
SETTINGS = {"train_batch_size_per_learner": 80, "minibatch_size": 20, "num_epochs": 2}


def ppo(env, model=None, **training):
    return on_policy(PPOConfig(), env, **(model or {})).training(**(SETTINGS | training))


ALL = {
    **CONFIGS,
    "ppo discrete": lambda: ppo("CartPole-v1"),
    "ppo box": lambda: ppo("Pendulum-v1", {"vf_share_layers": False}),
    "ppo recurrent": lambda: ppo("CartPole-v1", {"use_gru": True, "lstm_cell_size": 6, "max_seq_len": 4}),
    "ppo attention": lambda: ppo("CartPole-v1", ATTENTION),
    "ppo images": lambda: ppo(ImageEnv, IMAGES),
    "ppo in pieces": lambda: ppo("CartPole-v1", gradient_accumulation_steps=3),
}


def on_gpu(config):
    return config.learners(num_gpus_per_learner=1)


def weights(algorithm):
    module = algorithm.learner.learners["default"].module
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


@pytest.mark.filterwarnings("ignore::UserWarning")  # check_env's notes on test envs
@pytest.mark.parametrize("name", ALL)
def test_an_algorithm_conforms_with_its_learner_on_a_gpu(name, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(name == "dqn rainbow")  # else CUDA adds in any order where it scatters
    try:
        check_algorithm(on_gpu(ALL[name]()))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ALL)
def test_a_learner_on_a_gpu_learns_what_one_on_a_cpu_does(name, build):
    gpu, cpu = build(on_gpu(ALL[name]())), build(ALL[name]())
    before = weights(cpu)
    for _ in range(2):
        moved, expected = gpu.train(), cpu.train()
    learner = gpu.learner.learners["default"]
    assert {parameter.device.type for parameter in learner.module.parameters()} == {"cuda"}
    assert {tensor.device.type for tensor in gpu.policy.module.state_dict().values()} == {"cpu"}, "runners act there"
    changed = 0.0
    for name, tensor in weights(cpu).items():
        torch.testing.assert_close(weights(gpu)[name], tensor, rtol=1e-2, atol=1e-3)
        changed = max(changed, float((tensor.float() - before[name].float()).abs().max()))
    assert changed > 5e-4
    figures = [name for name in expected if name.startswith("learner/default/")]
    for name in figures:
        assert moved[name] == pytest.approx(expected[name], rel=5e-2, abs=5e-3, nan_ok=True), name


@pytest.mark.parametrize("name", ["ppo box", "ppo recurrent", "dqn rainbow", "sac box", "tqc"])
def test_a_checkpoint_goes_from_one_to_the_other(name, build, tmp_path):
    gpu = build(on_gpu(ALL[name]()))
    for _ in range(2):
        gpu.train()
    path = gpu.save(tmp_path / "gpu")
    cpu = build(ALL[name]())
    cpu.restore(path)
    np.testing.assert_equal(_numpy(weights(cpu)), _numpy(weights(gpu)))
    expected, got = gpu.train(), cpu.train()
    assert got["env_steps"] == expected["env_steps"]
    back = build(on_gpu(ALL[name]()))
    back.restore(cpu.save(tmp_path / "cpu"))
    np.testing.assert_equal(_numpy(weights(back)), _numpy(weights(cpu)))
    back.train()
    observation = gpu.policy.observation_space.sample()
    action, _ = Policy.from_checkpoint(path).act(observation)
    assert gpu.policy.action_space.contains(action)
    resumed = Algorithm.from_checkpoint(path, allow={"rl_core"})
    assert next(resumed.learner.module.parameters()).device.type == "cuda", "the config came from the checkpoint"
    resumed.stop()


def _numpy(tensors):
    return {name: tensor.numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("precision", ["float16-mixed", "bfloat16-mixed", "float16-true", "bfloat16-true"])
@pytest.mark.parametrize("name", ["ppo discrete", "ppo recurrent", "ppo images", "sac box", "dqn rainbow"])
def test_half_precision(name, precision, build):
    algorithm = build(on_gpu(ALL[name]().training(precision=precision)).env_runners(inference_dtype="float16"))
    before = weights(algorithm)
    for _ in range(14):  # float16 leaves out steps until the factor of its losses has come down
        algorithm.train()
    after = weights(algorithm)
    assert all(tensor.isfinite().all() for tensor in tree_leaves(after))
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())
    kept = torch.float32 if precision.endswith("mixed") else getattr(torch, precision.removesuffix("-true"))
    assert {parameter.dtype for parameter in algorithm.learner.module.parameters()} == {kept}


def test_a_compiled_module_learns_the_same(build):
    compiled, plain = (
        build(on_gpu(ALL["ppo images"]().learners(torch_compile=True))),
        build(on_gpu(ALL["ppo images"]())),
    )
    for _ in range(2):
        compiled.train(), plain.train()
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(compiled)[name], tensor, rtol=1e-2, atol=1e-3)
