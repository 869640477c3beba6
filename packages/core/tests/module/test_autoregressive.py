import itertools

import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from rl_core.module.autoregressive import Autoregressive
from rl_core.module.distribution import Bernoulli, Categorical, DiagonalGaussian, MultiCategorical, Nested
from rl_core.module.rl_module import RLModule
from rl_core.testing.check_module import check_module

SECONDS = {
    "categorical": (Categorical(3), spaces.Discrete(3)),
    "gaussian": (DiagonalGaussian((2,)), spaces.Box(-1, 1, (2,))),
    "multi": (MultiCategorical([2, 3]), spaces.MultiDiscrete([2, 3])),
    "nested": (
        Nested({"a": Bernoulli(2), "b": DiagonalGaussian(())}),
        spaces.Dict(a=spaces.MultiBinary(2), b=spaces.Box(-1, 1, ())),
    ),
}


class Module(RLModule):
    def __init__(self, observation_space, action_space, second="categorical"):
        super().__init__(observation_space, action_space)
        self.distribution = Autoregressive(Categorical(4), SECONDS[second][0])
        self.policy = torch.nn.Linear(5, self.distribution.num_inputs)
        self.value = torch.nn.Linear(5, 1)

    def forward_policy(self, obs, state):
        return self.policy(obs), state

    def forward_value(self, obs, state=()):
        return self.value(obs).squeeze(-1)


@pytest.mark.parametrize("second", SECONDS)
def test_a_module_with_it_conforms(second):
    observation, action = spaces.Box(-1, 1, (5,)), spaces.Tuple((spaces.Discrete(4), SECONDS[second][1]))
    check_module(Module(observation, action, second), observation, action)


def joint(inputs):
    """Probabilities `[2, 3]` of a pair of a choice of 2 and a choice of 3, from one row of inputs."""
    return inputs[:2].softmax(0)[:, None] * inputs[2:].view(2, 3).softmax(1)


@given(seed=st.integers(0, 10_000))
def test_everything_equals_the_enumeration_of_all_pairs(seed):
    distribution = Autoregressive(Categorical(2), Categorical(3))
    inputs, other = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    p, q = joint(inputs), joint(other)
    for first, second in itertools.product(range(2), range(3)):
        log_prob = distribution.log_prob(inputs, (torch.tensor(first), torch.tensor(second)))
        torch.testing.assert_close(log_prob, p[first, second].log())
    torch.testing.assert_close(distribution.entropy(inputs), -(p * p.log()).sum())
    torch.testing.assert_close(distribution.kl(inputs, other), (p * (p / q).log()).sum())
    first, second = distribution.mode(inputs)
    assert p[first, second] == p.max()


def test_samples_have_the_joint_frequencies():
    distribution = Autoregressive(Categorical(2), Categorical(3))
    inputs = torch.tensor([0.5, -0.5, 0.0, 1.0, -1.0, 2.0, 0.0, 0.0])
    count = 40_000
    noise = distribution.noise((count,), torch.Generator().manual_seed(0))
    first, second = distribution.sample(inputs.expand(count, -1), noise)
    frequencies = torch.bincount(first * 3 + second, minlength=6).view(2, 3) / count
    torch.testing.assert_close(frequencies, joint(inputs), atol=0.01, rtol=0)


def test_hand_computed_case():
    distribution = Autoregressive(Categorical(2), DiagonalGaussian((1,)))
    # Equal choices; the second is normal(1, 1) after 0 and normal(-2, 1) after 1.
    inputs = torch.tensor([[0.0, 0.0, 1.0, 0.0, -2.0, 0.0]])
    action = (torch.tensor([1]), torch.tensor([[-2.0]]))
    torch.testing.assert_close(distribution.log_prob(inputs, action), torch.tensor([-0.6931472 - 0.9189385]))
    torch.testing.assert_close(distribution.entropy(inputs), torch.tensor([0.6931472 + 1.4189385]))
    assert distribution.log_std_positions == (3, 5)


def test_any_leading_axes_will_do():
    distribution = Autoregressive(Categorical(2), DiagonalGaussian((2, 2)))
    inputs = torch.randn(3, 4, distribution.num_inputs)
    first, second = distribution.sample(inputs, distribution.noise((3, 4), torch.Generator().manual_seed(0)))
    assert first.shape == (3, 4)
    assert second.shape == (3, 4, 2, 2)
    assert distribution.log_prob(inputs, (first, second)).shape == (3, 4)
    assert distribution.mode(inputs)[1].shape == (3, 4, 2, 2)
