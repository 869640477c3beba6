"""Sampling beside gradient steps changes when things are computed, not what."""

import random
import time

import gymnasium
import pytest
import torch

from rl_core import DQNConfig, SACConfig

SMALL = {
    "train_batch_size_per_learner": 8,
    "env_steps_per_gradient_step": 2.0,
    "num_steps_sampled_before_learning_starts": 12,
}
ENVS = {DQNConfig: "CartPole-v1", SACConfig: "Pendulum-v1"}
NUM_STEPS = 12


def make(config_class, *, overlap, env=None, **training):
    config = config_class().environment(env or ENVS[config_class]).rl_module(model_config={"fcnet_hiddens": (8,)})
    config.env_runners(num_envs_per_env_runner=2).debugging(seed=3)
    return config.training(overlap_sampling=overlap, **SMALL, **training).build()


def state_of(algorithm):
    """All that later training depends on, as tensors by name."""
    state = algorithm.learner.get_state()
    tensors = dict(algorithm.learner.module.state_dict())
    tensors |= {
        f"target {part} {name}": tensor for part, net in state["targets"].items() for name, tensor in net.items()
    }
    tensors |= {f"buffer {place}": leaf for place, leaf in enumerate(leaves(state["buffer"]))}
    return tensors | {"generator": state["generator"], "due": torch.tensor(state["due"])}


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, list | tuple):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree.clone()] if isinstance(tree, torch.Tensor) else []


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert "buffer 0" in first
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("config_class", ENVS)
def test_overlapping_learns_what_one_thread_learns_that_takes_each_rollout_a_step_late(config_class):
    overlapped, plain = make(config_class, overlap=True), make(config_class, overlap=False)
    for _ in range(NUM_STEPS):
        overlapped.training_step()
        plain.learner.learn()
        plain.learner.store(plain.env_runner.sample())
        plain.env_runner.set_weights(plain.learner.weights())
    assert overlapped.learner.num_gradient_steps > 10
    assert_equal(state_of(overlapped), state_of(plain))
    for algorithm in (overlapped, plain):
        algorithm.stop()


class UnevenlySlowEnv(gymnasium.Wrapper):
    """CartPole whose steps take 0 to 2 ms, by chance."""

    def __init__(self, config=None):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.chance = random.SystemRandom()

    def step(self, action):
        time.sleep(self.chance.random() * 2e-3)
        return super().step(action)


@pytest.mark.filterwarnings("ignore::UserWarning")  # check_env's notes
def test_overlapping_gives_the_same_whichever_thread_is_faster(monkeypatch):
    prioritized = {"replay_buffer_config": {"type": "prioritized"}, "n_step": (1, 3)}
    runs = []
    for env, learner_pause in (("CartPole-v1", 0.0), (UnevenlySlowEnv, 0.0), ("CartPole-v1", 3e-3)):
        algorithm = make(DQNConfig, overlap=True, env=env, **prioritized)
        learn = algorithm.learner.learn
        monkeypatch.setattr(
            algorithm.learner, "learn", lambda learn=learn, s=learner_pause: (time.sleep(s), learn())[1]
        )
        results = [algorithm.training_step() for _ in range(NUM_STEPS)]
        runs.append((state_of(algorithm), torch.tensor([list(result.values()) for result in results])))
        algorithm.stop()
    for state, figures in runs[1:]:
        assert_equal(state, runs[0][0])
        torch.testing.assert_close(figures, runs[0][1], rtol=0, atol=0, equal_nan=True)
