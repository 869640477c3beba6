"""Every default module gives the same numbers through onnxruntime as through PyTorch, over steps and batch sizes."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stateful_connectors import FrameStack, RunningMean

from rl_core import ModelSettings, Policy, RLModule
from rl_core.connect.required import ActionToEnv
from rl_core.errors import ConfigError, RLError
from rl_core.module import Autoregressive, MaskedActorCritic
from rl_core.module.actor_q import ActorQ, ActorQSettings
from rl_core.module.discrete import Categorical
from rl_core.module.gaussian import DiagonalGaussian
from rl_core.module.q_network import QNetwork, QNetworkSettings
from rl_core.module.spec import ModuleSpec
from rl_core.onnx import OnnxPolicy, export_onnx
from rl_core.policy import with_required_connector
from rl_core.tree import tree_leaves, tree_map, tree_zip

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

VECTOR = spaces.Box(-2, 2, (4,), np.float32)
DISCRETE = spaces.Discrete(3, start=5)
BOX = spaces.Box(-2, 3, (2,), np.float32)
PIXELS = spaces.Box(0, 255, (84, 84, 4), np.uint8)
SMALL_PIXELS = spaces.Box(0, 255, (3, 20, 20), np.uint8)
NESTED_OBS = spaces.Dict(
    vector=spaces.Box(-1, 1, (3,), np.float64),
    image=spaces.Box(0, 255, (20, 20, 3), np.uint8),
    rest=spaces.Tuple((spaces.Discrete(4), spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(2))),
)
NESTED_ACTION = spaces.Dict(
    b=spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2, 2), np.float32))),
    a=spaces.MultiDiscrete([2, 4]),
    c=spaces.MultiBinary(3),
)
MEMORY = {"lstm_cell_size": 16, "fcnet_hiddens": (16,)}
ATTENTION = {"use_attention": True, "attention_window": 2, "attention_num_layers": 2, "attention_num_heads": 2}
IMPALA = {"conv_architecture": "impala", "conv_channels": (4, 8)}


class TwoActions(RLModule):
    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space)
        self.distribution = Autoregressive(Categorical(3), DiagonalGaussian((2,)))
        self.policy = torch.nn.Linear(4, self.distribution.num_inputs)

    def forward_policy(self, obs, state):
        return self.policy(obs), state

    def forward_value(self, obs, state=()):
        return obs.sum(-1)


class Counting(TwoActions):
    """Looks at the number of steps only, from 1 on."""

    def initial_state(self, batch_size):
        return {"steps": torch.ones(batch_size, 1), "same": torch.full((batch_size,), 7.0)}

    def forward_policy(self, obs, state):
        return state["steps"].expand(-1, self.distribution.num_inputs), {**state, "steps": state["steps"] + 1}


class Branching(TwoActions):
    """Depends on a Python branch on a value, which no recording follows."""

    def forward_policy(self, obs, state):
        return (self.policy(obs) if obs.sum() > 0 else self.policy(-obs)), state


class Foreign(TwoActions):
    """Uses what ONNX has no operator for."""

    def forward_policy(self, obs, state):
        return self.policy(torch.linalg.eigvals(obs.unsqueeze(-1) * obs.unsqueeze(-2)).real), state


def spec(**settings):
    return ModuleSpec(model_config=ModelSettings(policy_head_gain=1.0, **settings))


def actor_q(**settings):
    return ModuleSpec(module_class=ActorQ, model_config=ActorQSettings(**settings))


def q_network(**settings):
    return ModuleSpec(module_class=QNetwork, model_config=QNetworkSettings(**settings))


def make_policy(spec, observation_space=VECTOR, action_space=DISCRETE, connectors=()):
    pieces = with_required_connector(spec, observation_space, action_space, connectors)
    policy = Policy(spec, observation_space, action_space, obs_connectors=pieces, action_connectors=[ActionToEnv()])
    generator = torch.Generator().manual_seed(3)
    for tensor in policy.module.state_dict().values():  # biases and noise off zero, as after training
        if tensor.is_floating_point() and tensor.ndim:
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=generator))
    return policy


CASES = {
    "vector": (spec(), VECTOR, DISCRETE),
    "relu": (spec(fcnet_activation="relu"), VECTOR, DISCRETE),
    "elu": (spec(fcnet_activation="elu"), VECTOR, DISCRETE),
    "gelu": (spec(fcnet_activation="gelu"), VECTOR, DISCRETE),
    "silu": (spec(fcnet_activation="silu"), VECTOR, DISCRETE),
    "shared": (spec(vf_share_layers=True, head_fcnet_hiddens=(8,)), VECTOR, DISCRETE),
    "layer norm": (spec(fcnet_use_layernorm=True), VECTOR, DISCRETE),
    "layer norm in the heads": (
        spec(vf_share_layers=True, head_fcnet_hiddens=(8,), head_fcnet_use_layernorm=True),
        VECTOR,
        DISCRETE,
    ),
    "padded convolutions": (spec(conv_filters=((4, (4, 3), (2, 1), "same"), (4, 3, 2, "same"))), SMALL_PIXELS, BOX),
    "free log std": (spec(), VECTOR, BOX),
    "log std of the state": (spec(free_log_std=False), VECTOR, BOX),
    "squashed": (spec(squash_actions=True), VECTOR, BOX),
    "several choices": (spec(), VECTOR, spaces.MultiDiscrete([[3, 2], [4, 2]])),
    "several equal choices": (spec(), VECTOR, spaces.MultiDiscrete([3, 3])),
    "yes or no": (spec(), VECTOR, spaces.MultiBinary((2, 2))),
    "nested action": (spec(), VECTOR, NESTED_ACTION),
    "nested action, squashed": (spec(squash_actions=True, free_log_std=False), VECTOR, NESTED_ACTION),
    "flattened": (spec(), spaces.Tuple((VECTOR, spaces.Discrete(3))), DISCRETE),
    "nature": (spec(), PIXELS, DISCRETE),
    "channels first": (spec(conv_use_layernorm=True), SMALL_PIXELS, DISCRETE),
    "impala": (spec(**IMPALA), SMALL_PIXELS, DISCRETE),
    "impala, layer norm": (spec(conv_use_layernorm=True, **IMPALA), SMALL_PIXELS, DISCRETE),
    "nested observation": (spec(), NESTED_OBS, DISCRETE),
    "lstm": (spec(use_lstm=True, vf_share_layers=True, **MEMORY), VECTOR, DISCRETE),
    "lstm each": (spec(use_lstm=True, vf_share_layers=False, **MEMORY), VECTOR, BOX),
    "lstm, impala": (spec(use_lstm=True, **MEMORY, **IMPALA), SMALL_PIXELS, DISCRETE),
    "lstm, all nested": (spec(use_lstm=True, vf_share_layers=True, **MEMORY), NESTED_OBS, NESTED_ACTION),
    "gru": (spec(use_gru=True, vf_share_layers=True, **MEMORY), VECTOR, DISCRETE),
    "attention": (spec(vf_share_layers=True, **ATTENTION), VECTOR, DISCRETE),
    "attention each": (spec(vf_share_layers=False, **ATTENTION), VECTOR, DISCRETE),
    "gru each": (spec(use_gru=True, vf_share_layers=False, **MEMORY), VECTOR, BOX),
    "gru, nested observation": (spec(use_gru=True, **MEMORY), NESTED_OBS, DISCRETE),
    "attention, nature": (spec(**ATTENTION), PIXELS, DISCRETE),
    "autoregressive": (ModuleSpec(module_class=TwoActions, model_config={}), VECTOR, spaces.Tuple((DISCRETE, BOX))),
    "own state, observation unused": (
        ModuleSpec(module_class=Counting, model_config={}),
        VECTOR,
        spaces.Tuple((DISCRETE, BOX)),
    ),
    "masked": (
        ModuleSpec(module_class=MaskedActorCritic, model_config={}),
        spaces.Dict(observations=VECTOR, action_mask=spaces.MultiBinary(3)),
        DISCRETE,
    ),
    "masked lstm": (
        ModuleSpec(module_class=MaskedActorCritic, model_config={"use_lstm": True, **MEMORY}),
        spaces.Dict(observations=VECTOR, action_mask=spaces.Box(0, 1, (3,), np.int8)),
        DISCRETE,
    ),
    "q": (q_network(dueling=False), VECTOR, DISCRETE),
    "q dueling": (q_network(), VECTOR, DISCRETE),
    "q c51 dueling": (q_network(num_atoms=11), VECTOR, DISCRETE),
    "q noisy": (q_network(noisy=True), VECTOR, DISCRETE),
    "q c51 noisy": (q_network(num_atoms=11, noisy=True, dueling=False), VECTOR, DISCRETE),
    "q lstm": (q_network(model=ModelSettings(use_lstm=True, **MEMORY)), VECTOR, DISCRETE),
    "q attention": (q_network(model=ModelSettings(**ATTENTION)), VECTOR, DISCRETE),
    "q nature": (q_network(), PIXELS, DISCRETE),
    "q layer norm in the heads": (
        q_network(model=ModelSettings(head_fcnet_hiddens=(8,), head_fcnet_use_layernorm=True)),
        VECTOR,
        DISCRETE,
    ),
    "sac": (actor_q(), VECTOR, BOX),
    "sac, nested observation": (actor_q(model=ModelSettings(fcnet_use_layernorm=True)), NESTED_OBS, BOX),
    "td3, impala": (actor_q(actor="deterministic", model=ModelSettings(**IMPALA)), SMALL_PIXELS, BOX),
    "sac discrete": (actor_q(), VECTOR, DISCRETE),
    "td3": (actor_q(actor="deterministic"), VECTOR, BOX),
    "tqc": (actor_q(num_quantiles=5), VECTOR, BOX),
}


# Of outputs up to 7 behind thousands of products that the two add up in another order.
ROUNDING = {"lstm, impala": 2e-5, "attention, nature": 2e-5}


def draw(space, batch_size):
    rows = [tree_map(np.asarray, space.sample()) for _ in range(batch_size)]
    obs = tree_zip(np.stack, rows)
    if isinstance(obs, dict) and "action_mask" in obs:
        obs["action_mask"][:, 1] = 1
    return tree_map(lambda leaf: leaf.astype(np.float32) if leaf.dtype.kind == "f" else leaf, obs)


@pytest.mark.parametrize("name", CASES)
def test_the_graph_gives_the_numbers_of_the_module(name, tmp_path):
    policy = make_policy(*CASES[name])
    module, space = policy.module, policy.obs_chain.output_space
    space.seed(0)
    session = onnxruntime.InferenceSession(export_onnx(policy, tmp_path / "policy.onnx"))
    outputs = [node.name for node in session.get_outputs()]
    for batch_size in (1, 2, 7, 64):
        state = module.initial_state(batch_size)
        arrays = [leaf.numpy() for leaf in tree_leaves(state)]
        for _ in range(4):
            obs = draw(space, batch_size)
            leaves = [*tree_leaves(obs), *arrays]
            feed = {node.name: leaf for node, leaf in zip(session.get_inputs(), leaves, strict=True)}
            found = session.run(None, feed)
            with torch.inference_mode():
                dist_inputs, state = module.forward_policy(tree_map(torch.from_numpy, obs), state)
                action = module.distribution.mode(dist_inputs)
            expected = [*tree_leaves(action), dist_inputs, *tree_leaves(state)]
            for output, own, other in zip(outputs, expected, found, strict=True):
                assert other.dtype == own.numpy().dtype, output
                np.testing.assert_allclose(other, own.numpy(), rtol=1e-5, atol=ROUNDING.get(name, 1e-5), err_msg=output)
            arrays = found[len(expected) - len(arrays) :]


@pytest.mark.parametrize("name", CASES)
def test_the_exported_policy_acts_as_the_policy_does(name, tmp_path):
    policy = make_policy(*CASES[name])
    exported = OnnxPolicy(export_onnx(policy, tmp_path / "policy.onnx"))
    policy.observation_space.seed(1)
    state = other_state = None
    for _ in range(5):
        obs = policy.observation_space.sample()
        if isinstance(obs, dict) and "action_mask" in obs:
            obs["action_mask"][1] = 1
        action, state = policy.act(obs, state)
        other, other_state = exported.act(obs, other_state)
        assert policy.action_space.contains(other) == policy.action_space.contains(action)
        for own, found in zip(tree_leaves(action), tree_leaves(other), strict=True):
            assert type(found) is type(own)
            np.testing.assert_allclose(found, own, atol=1e-5)


def test_inputs_and_outputs_are_named_by_their_place_in_the_trees(tmp_path):
    policy = make_policy(*CASES["lstm, all nested"])
    session = onnxruntime.InferenceSession(export_onnx(policy, tmp_path / "policy.onnx"))
    inputs = ["obs.vector", "obs.image", "obs.rest.0", "obs.rest.1", "obs.rest.2", "state.0", "state.1"]
    assert [node.name for node in session.get_inputs()] == inputs
    actions = ["action.b.0", "action.b.1", "action.a", "action.c"]
    outputs = [*actions, "dist_inputs", "next_state.0", "next_state.1"]
    assert [node.name for node in session.get_outputs()] == outputs
    assert {node.shape[0] for node in (*session.get_inputs(), *session.get_outputs())} == {"batch"}


def test_keys_that_would_make_equal_names_are_numbered(tmp_path):
    space = spaces.Dict({"a.b": SMALL_PIXELS, "a": spaces.Dict(b=VECTOR)})
    policy = make_policy(spec(), space)
    session = onnxruntime.InferenceSession(export_onnx(policy, tmp_path / "policy.onnx"))
    assert [node.name for node in session.get_inputs()] == ["obs.0", "obs.1"]
    space.seed(0)
    obs = space.sample()
    assert OnnxPolicy(tmp_path / "policy.onnx").act(obs)[0] == policy.act(obs)[0]


@pytest.mark.parametrize("architecture", ["plain", "impala"])
def test_convolutions_in_half_precision_are_exported_in_single(architecture, tmp_path):
    settings = {"conv_architecture": architecture, "conv_channels": (4,)}
    half, single = (
        make_policy(spec(conv_dtype=dtype, **settings), SMALL_PIXELS, BOX) for dtype in ("bfloat16", "float32")
    )
    exported = OnnxPolicy(export_onnx(half, tmp_path / "policy.onnx"))
    obs = SMALL_PIXELS.sample()
    np.testing.assert_allclose(exported.act(obs)[0], single.act(obs)[0], atol=1e-5)
    assert half.module.trunk.in_bfloat16, "the policy stays as it was"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("memory", [False, True])
def test_a_policy_that_acts_in_half_precision_is_exported_in_single(dtype, memory, tmp_path):
    model = spec(use_lstm=True, **MEMORY) if memory else spec()
    half, single = (Policy(model, VECTOR, BOX, seed=3, inference_dtype=kind) for kind in (dtype, "float32"))
    exported = OnnxPolicy(export_onnx(half, tmp_path / "policy.onnx"))
    state = exact_state = None
    for _ in range(5):
        obs = VECTOR.sample()
        action, state = exported.act(obs, state)
        exact, exact_state = single.act(obs, exact_state)
        np.testing.assert_allclose(action, exact, atol=0.02)
    assert {tensor.dtype for tensor in half.module.parameters()} == {getattr(torch, dtype)}, "it stays as it was"


def test_connectors_and_their_statistics_are_in_the_file(tmp_path):
    policy = make_policy(spec(), connectors=[RunningMean(bound=1e3), FrameStack(2)])
    policy.shared = ({"count": np.array(7.0), "mean": np.array([1.0, -1.0, 0.5, 0.25])}, ())
    policy.version = 12
    exported = OnnxPolicy(export_onnx(policy, tmp_path / "policy.onnx"))
    assert exported.version == 12
    assert (exported.observation_space, exported.action_space) == (VECTOR, DISCRETE)
    state = other_state = None
    for _ in range(5):
        obs = VECTOR.sample()
        action, state = policy.act(obs, state)
        other, other_state = exported.act(obs, other_state)
        assert action == other
        np.testing.assert_array_equal(other_state.connectors[1].slots, state.connectors[1].slots)
    assert other_state.connectors[0].shared["count"] == 7


def test_exporting_changes_nothing(tmp_path):
    policy = make_policy(spec(use_lstm=True, **MEMORY))
    policy.observation_space.seed(5)
    before = {name: tensor.clone() for name, tensor in policy.module.state_dict().items()}
    expected = spaces.Box(-2, 2, (4,), np.float32, seed=5).sample()
    torch.manual_seed(0)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    export_onnx(policy, tmp_path / "policy.onnx")
    assert torch.rand(1) == drawn
    np.testing.assert_array_equal(policy.observation_space.sample(), expected)
    for name, tensor in policy.module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_module_that_branches_on_values_is_refused_and_leaves_no_file(tmp_path):
    policy = make_policy(ModuleSpec(module_class=Branching, model_config={}), VECTOR, spaces.Tuple((DISCRETE, BOX)))
    with pytest.raises(RLError, match=r"differ by up to .* in '.*'.*branches on values"):
        export_onnx(policy, tmp_path / "policy.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_module_with_operations_that_onnx_lacks_is_refused(tmp_path):
    policy = make_policy(ModuleSpec(module_class=Foreign, model_config={}), VECTOR, spaces.Tuple((DISCRETE, BOX)))
    with pytest.raises(RLError, match="Foreign cannot be written in ONNX's operators"):
        export_onnx(policy, tmp_path / "policy.onnx")


@pytest.mark.parametrize("place", ["nowhere/policy.onnx", 300 * "n" + ".onnx", "folder"])
def test_a_place_that_cannot_be_written_is_refused_and_nothing_left(place, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(RLError, match="cannot write"):
        export_onnx(make_policy(spec()), tmp_path / place)
    assert list(tmp_path.rglob("*")) == [tmp_path / "folder"]


@pytest.mark.parametrize("path", ["", ".", "/", ".."])
def test_a_path_without_a_name_is_refused(path):
    with pytest.raises(RLError, match=r"expected a file to write, such as policy\.onnx"):
        export_onnx(make_policy(spec()), path)


def test_an_export_replaces_the_file_of_an_earlier_one(tmp_path):
    path = tmp_path / "policy.onnx"
    path.write_bytes(b"earlier")
    assert export_onnx(make_policy(spec()), path) == path
    assert OnnxPolicy(path).act(np.zeros(4, np.float32))[0] in DISCRETE
    assert list(tmp_path.iterdir()) == [path]


class Fickle(TwoActions):
    always_explores = True


def test_a_module_that_always_explores_is_refused(tmp_path):
    policy = Policy(ModuleSpec(module_class=Fickle, model_config={}), VECTOR, BOX, action_connectors=[ActionToEnv()])
    with pytest.raises(ConfigError, match="Fickle always draws its actions"):
        export_onnx(policy, tmp_path / "policy.onnx")
