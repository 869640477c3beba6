import numpy as np
import pytest
from gymnasium import spaces

from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.tree import tree_leaves


@pytest.fixture
def apply():
    """What a stateless piece makes of a batch of observations `[B, ...]`, and the space that it declares."""

    def fn(piece, space, obs):
        chain = ObsChain([piece], space, spaces.Discrete(2))
        num_slots = len(next(iter(tree_leaves(obs))))
        _, step = chain(chain.initial_state(num_slots), observations_only(obs, np.ones(num_slots, bool)))
        return step.obs, chain.output_space

    return fn
