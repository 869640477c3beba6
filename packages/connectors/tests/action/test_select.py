import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_connectors import SelectActions
from rl_core.connect.chain import ActionChain
from rl_core.connect.required import ActionToEnv
from rl_core.errors import ConfigError


def test_actions_are_named_as_the_env_names_them():
    space = spaces.Discrete(4, start=-1)
    chain = ActionChain([SelectActions((2, -1)), ActionToEnv()], space)
    assert chain.module_space == spaces.Discrete(2)
    _, result = chain(chain.initial_state(3, seed=0), torch.tensor([0, 1, 0]), np.zeros(3, bool))
    assert result.tolist() == [2, -1, 2]


@pytest.mark.parametrize("allowed", [(), (1, 1), (1.0,), (True, 2), [0, 1], 3])
def test_allowed_actions_are_different_whole_numbers(allowed):
    with pytest.raises(ConfigError, match="SelectActions: got allowed=.*expected a tuple of different whole numbers"):
        SelectActions(allowed)


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        (spaces.Discrete(3, start=1), "names the action 0, and Discrete.* has 1 to 3"),
        (spaces.Box(0, 1), "takes Discrete"),
    ],
)
def test_other_spaces_are_refused(space, problem):
    with pytest.raises(ConfigError, match=problem):
        ActionChain([SelectActions((0, 2))], space)
