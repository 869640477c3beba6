import doctest

import pytest
import torch
from gymnasium import spaces

from rl_core.module import rl_module
from rl_core.module.rl_module import RLModule
from rl_core.testing.check_module import check_module


def test_the_example_in_the_docstring_is_a_valid_module():
    names = {"RLModule": RLModule}
    example = doctest.DocTestParser().get_doctest(RLModule.__doc__, names, "RLModule", rl_module.__file__, 0)
    assert doctest.DocTestRunner().run(example, clear_globs=False).failed == 0
    check_module(example.globs["LinearModule"], spaces.Box(-1, 1, (4,)), spaces.Discrete(3))


def test_forward_train_combines_policy_and_value():
    class Module(RLModule):
        def forward_policy(self, obs, state):
            return obs * 2, state

        def forward_value(self, obs, state=()):
            return obs.sum(-1)

    module = Module(spaces.Box(-1, 1, (2,)), spaces.Discrete(2))
    dist_inputs, value = module.forward_train(torch.ones(3, 2))
    assert torch.equal(dist_inputs, torch.full((3, 2), 2.0))
    assert torch.equal(value, torch.full((3,), 2.0))
    assert module.initial_state(3) == ()


def test_a_module_must_have_both_forward_methods():
    class Half(RLModule):
        def forward_value(self, obs, state=()):
            return obs.sum(-1)

    with pytest.raises(TypeError, match="forward_policy"):
        Half(spaces.Box(-1, 1, (2,)), spaces.Discrete(2))
