import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_core import ModelSettings
from rl_core.module.actor_critic import ActorCritic
from rl_core.module.stack import PolicyStack, can_stack

VECTOR = spaces.Box(-1, 1, (4,))
ACTIONS = {
    "discrete": spaces.Discrete(3),
    "box": spaces.Box(-1, 1, (2,)),
    "nested": spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Discrete(2), c=spaces.Box(-1, 1, (1,))),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("free", [True, False])
def test_a_stack_gives_what_each_module_gives(action, free):
    settings = ModelSettings(free_log_std=free, fcnet_hiddens=(8, 5))
    modules = [ActorCritic(VECTOR, ACTIONS[action], settings) for _ in range(3)]
    obs = torch.rand(3, 7, 4)
    with torch.inference_mode():
        alone = torch.stack([module.forward_policy(part)[0] for module, part in zip(modules, obs, strict=True)])
        stack = PolicyStack(modules)
        torch.testing.assert_close(stack(obs), alone)
        torch.testing.assert_close(modules[1].forward_policy(obs[1])[0], alone[1])


def test_weights_loaded_into_a_module_are_the_stacks_too():
    modules = [ActorCritic(VECTOR, ACTIONS["box"]) for _ in range(2)]
    other, obs = ActorCritic(VECTOR, ACTIONS["box"]), torch.rand(2, 5, 4)
    stack = PolicyStack(modules)
    modules[1].load_state_dict(other.state_dict())
    torch.testing.assert_close(stack(obs)[1], other.forward_policy(obs[1])[0])


def test_only_plain_networks_of_equal_structure_are_stacked():
    plain = ActorCritic(VECTOR, ACTIONS["discrete"])
    image = spaces.Box(0, 255, (10, 10, 3), np.uint8)
    assert can_stack([plain, ActorCritic(VECTOR, ACTIONS["discrete"])])
    for other in (
        ActorCritic(VECTOR, spaces.Discrete(2)),
        ActorCritic(spaces.Box(-1, 1, (3,)), ACTIONS["discrete"]),
        ActorCritic(VECTOR, ACTIONS["discrete"], ModelSettings(fcnet_hiddens=(8,))),
        ActorCritic(image, ACTIONS["discrete"]),
    ):
        assert not can_stack([plain, other])
    lstms = [ActorCritic(VECTOR, ACTIONS["discrete"], ModelSettings(use_lstm=True)) for _ in range(2)]
    normed = [ActorCritic(VECTOR, ACTIONS["discrete"], ModelSettings(fcnet_use_layernorm=True)) for _ in range(2)]
    images = [ActorCritic(image, ACTIONS["discrete"]) for _ in range(2)]
    assert not any(map(can_stack, (lstms, normed, images)))


def test_subclasses_are_stacked_where_their_policy_is_evaluated_alike():
    class OtherValue(ActorCritic):
        def forward_value(self, obs, state=()):
            return super().forward_value(obs, state) + 1

    class OtherPolicy(ActorCritic):
        def forward_policy(self, obs, state=()):
            dist_inputs, state = super().forward_policy(obs, state)
            return 2 * dist_inputs, state

    def pair(first, second):
        return [first(VECTOR, ACTIONS["discrete"]), second(VECTOR, ACTIONS["discrete"])]

    assert can_stack(pair(OtherValue, OtherValue))
    assert not can_stack(pair(OtherValue, ActorCritic))
    assert not can_stack(pair(OtherPolicy, OtherPolicy))
