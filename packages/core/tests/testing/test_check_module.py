import pytest
import torch
from gymnasium import spaces

from rl_core.module.discrete import Categorical
from rl_core.module.rl_module import RLModule
from rl_core.testing.check_module import ModuleCheckError, check_module

OBSERVATION, ACTION = spaces.Box(-1, 1, (4,)), spaces.Discrete(2)


class Good(RLModule):
    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space)
        self.policy = torch.nn.Linear(4, 2)
        self.value = torch.nn.Linear(4, 1)

    def forward_policy(self, obs, state):
        return self.policy(obs), state

    def forward_value(self, obs, state=()):
        return self.value(obs).squeeze(-1)


class ValueWithLastAxis(Good):
    def forward_value(self, obs, state=()):
        return self.value(obs)


class MixesRows(Good):
    def forward_policy(self, obs, state):
        return self.policy(obs - obs.mean(0)), state


class OneLeadingAxis(Good):
    def forward_policy(self, obs, state):
        return torch.einsum("bd,pd->bp", obs, self.policy.weight) + self.policy.bias, state


class Dropout(Good):
    def forward_policy(self, obs, state):
        return torch.dropout(self.policy(obs), 0.5, True), state


class KeepsDevice(Good):
    def __init__(self, *spaces):
        super().__init__(*spaces)
        self.device = torch.device("cpu")


class LooseTensor(Good):
    def __init__(self, *spaces):
        super().__init__(*spaces)
        self.scale = torch.ones(4)


class UnusedLayer(Good):
    def __init__(self, *spaces):
        super().__init__(*spaces)
        self.spare = torch.nn.Linear(4, 4)


class TiedLayers(Good):
    def __init__(self, *spaces):
        super().__init__(*spaces)
        self.also_policy = self.policy


class HiddenState(Good):
    def __init__(self, *spaces):
        super().__init__(*spaces)
        self.register_buffer("scale", torch.ones(4), persistent=False)

    def forward_policy(self, obs, state):
        return self.policy(obs * self.scale), state


class StateOfOtherForm(Good):
    def forward_policy(self, obs, state):
        return self.policy(obs), (obs,)


class OtherTrainOutputs(Good):
    def forward_train(self, obs, state=()):
        return self.policy(obs) + 1, self.forward_value(obs, state)


class GoodMemory(Good):
    def __init__(self, *spaces):
        super().__init__(*spaces)
        self.carry = torch.nn.Linear(4, 4)

    def initial_state(self, batch_size):
        return {"sum": torch.zeros(batch_size, 4)}

    def step(self, obs, state):
        return torch.tanh(obs + self.carry(state["sum"]))

    def forward_policy(self, obs, state):
        memory = self.step(obs, state)
        return self.policy(memory), {"sum": memory}

    def forward_value(self, obs, state=()):
        return self.value(self.step(obs, state)).squeeze(-1)

    def forward_train(self, obs, state=()):
        memories = []
        for row in obs:
            state = {"sum": self.step(row, state)}
            memories.append(state["sum"])
        memory = torch.stack(memories)
        return self.policy(memory), self.value(memory).squeeze(-1)


class ForgetsTheState(GoodMemory):
    def forward_train(self, obs, state=()):
        return super().forward_train(obs, self.initial_state(obs.shape[1]))


class TrainsOneStep(GoodMemory):
    def forward_train(self, obs, state=()):
        return RLModule.forward_train(self, obs[0], state)


class BlocksTheGradient(GoodMemory):
    def step(self, obs, state):
        return torch.tanh(obs + self.carry(state["sum"]).detach())


class MixesSegments(GoodMemory):
    def forward_train(self, obs, state=()):
        inputs, value = super().forward_train(obs, state)
        return inputs, value + 0.1 * (value.shape[1] == 1)


class GrowsTheState(GoodMemory):
    def forward_policy(self, obs, state):
        inputs, after = super().forward_policy(obs, {"sum": state["sum"][:, :4]})
        return inputs, {"sum": torch.cat((after["sum"], after["sum"]), 1)}


class NotFinite(Good):
    def forward_value(self, obs, state=()):
        return self.value(obs).squeeze(-1) / 0.0


class WrongSampling(Categorical):
    def sample(self, inputs, noise):
        return (2 * inputs + 3 + noise).argmin(-1) * 0


class WrongDistribution(Good):
    def __init__(self, *spaces):
        super().__init__(*spaces)
        self.distribution = WrongSampling(2)


def test_a_good_module_passes_and_is_left_alone():
    module = Good(OBSERVATION, ACTION)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    random_state = torch.get_rng_state()
    check_module(module, OBSERVATION, ACTION)
    assert torch.equal(random_state, torch.get_rng_state())
    check_module(Good, OBSERVATION, ACTION)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (ValueWithLastAxis, "forward_value.*squeeze"),
        (MixesRows, "row"),
        (OneLeadingAxis, "two leading axes"),
        (Dropout, "dropout"),
        (KeepsDevice, "device"),
        (LooseTensor, "scale.*register_buffer"),
        (UnusedLayer, r"no gradient reaches spare\.weight"),
        (TiedLayers, "same tensor"),
        (HiddenState, "load_state_dict"),
        (StateOfOtherForm, "state"),
        (OtherTrainOutputs, "forward_train"),
        (ForgetsTheState, "differ from those of its single steps.*given state"),
        (TrainsOneStep, r"\[L, S, ...\]"),
        (BlocksTheGradient, r"no gradient reaches carry\.weight"),
        (MixesSegments, "segment alone"),
        (GrowsTheState, "state of shapes"),
        (NotFinite, "not finite"),
        (WrongDistribution, "entropy"),
    ],
)
def test_each_mistake_is_found_and_explained(module, words):
    torch.manual_seed(0)
    with pytest.raises(ModuleCheckError, match=words):
        check_module(module, OBSERVATION, ACTION)


def test_a_module_with_memory_passes():
    check_module(GoodMemory, OBSERVATION, ACTION)


def test_a_module_for_another_action_space_is_found():
    with pytest.raises(ModuleCheckError, match="distribution inputs"):
        check_module(Good, OBSERVATION, spaces.Discrete(3))
