"""Learners in other processes on a GPU, where there is one, which they may share."""

import os
import signal
import sys

import numpy as np
import pytest
import ray
import small_learners
import torch
import torch.distributed as dist
from small_learners import config, flat, plain_descent

from rl_core import IMPALAConfig, SACConfig

if not torch.cuda.is_available():
    pytest.skip("no CUDA device here", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("cluster")
for module in (small_learners, sys.modules[__name__]):
    ray.cloudpickle.register_pickle_by_value(module)


def on_gpu(given, share):
    """Give each learner a part of a GPU."""
    return given.learners(num_gpus_per_learner=share)


def ask(algorithm, function):
    return ray.get([handle.__ray_call__.remote(function) for handle in algorithm._learner_group._handles])


def place(actor):
    devices = {parameter.device.type for parameter in actor.modules()["default"].parameters()}
    return devices, dist.get_backend(), os.getpid()


@pytest.mark.parametrize(("num_learners", "backend"), [(1, "nccl"), (2, "gloo")])
@pytest.mark.parametrize("precision", ["float32", "bfloat16-mixed", "float16-mixed"])
def test_learners_on_a_gpu_learn_as_one_on_a_cpu(build, num_learners, backend, precision):
    same = {"num_epochs": 1, "grad_clip": None, "precision": precision}
    given = on_gpu(config(num_learners=num_learners, **same), 1 / num_learners)
    gpu = build(given.learners(optimizer_fn=plain_descent))
    cpu = build(config(num_learners=0, **same).learners(optimizer_fn=plain_descent))
    assert [found[:2] for found in ask(gpu, place)] == [({"cuda"}, backend)] * num_learners
    before = flat(cpu.learner.weights())
    assert torch.equal(flat(gpu.learner.weights()), before)
    rollout = cpu.env_runner.sample()
    for _ in range(12):  # float16 leaves out steps until the factor of its losses has come down
        figures, expected = gpu.learner.update(rollout), cpu.learner.update(rollout)
        moved, wanted = flat(gpu.learner.weights()) - before, flat(cpu.learner.weights()) - before
        if wanted.any():
            break
    half = precision != "float32"
    assert wanted.abs().max() > 1e-4
    close = {"atol": 1e-2, "rtol": 5e-2} if half else {"atol": 1e-4, "rtol": 1e-3}
    torch.testing.assert_close(moved, wanted, **close)
    for name, value in expected.items():
        if not name.endswith("explained_variance"):  # of each share
            assert figures[name] == pytest.approx(value, rel=close["rtol"], abs=close["atol"]), name


def test_of_two_that_share_a_gpu_a_killed_one_is_replaced(build):
    algorithm = build(on_gpu(config(num_learners=2), 0.5))
    algorithm.train()
    (_, _, victim), (_, _, survivor) = ask(algorithm, place)
    os.kill(victim, signal.SIGKILL)
    with pytest.warns(UserWarning, match="1 of 2 learners are replaced"):
        assert algorithm.train()["learner/num_restarts"] == 1
    assert np.isfinite(algorithm.train()["learner/default/policy_loss"])
    found = ask(algorithm, place)
    assert survivor in {pid for _, _, pid in found}
    assert [devices for devices, _, _ in found] == [{"cuda"}] * 2


def test_an_asynchronous_learner_on_a_gpu_is_fed_by_runners(build, tmp_path):
    given = on_gpu(config(IMPALAConfig, num_learners=0), 1.0).env_runners(num_env_runners=2)
    given = given.environment("CartPole-v1")
    algorithm = build(given)
    for _ in range(5):
        result = algorithm.train()
    assert np.isfinite(result["learner/default/policy_loss"])
    path = algorithm.save(tmp_path / "saved")
    algorithm.restore(path)
    algorithm.train()


def test_learners_that_replay_share_a_gpu(build):
    given = SACConfig().environment("Pendulum-v1").env_runners(num_envs_per_env_runner=2)
    given.training(num_steps_sampled_before_learning_starts=4).reporting(min_sample_timesteps_per_iteration=20)
    algorithm = build(given.learners(num_learners=2, num_gpus_per_learner=0.5))
    for _ in range(5):
        result = algorithm.train()
    assert np.isfinite(result["learner/default/critic_loss"])
