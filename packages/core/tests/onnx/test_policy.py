"""Exported policies: what they need, and what files they refuse."""

import json
import subprocess
import sys

import numpy as np
import pytest
from gymnasium import spaces

from rl_core import ModelSettings, Policy
from rl_core.connect.required import ActionToEnv
from rl_core.errors import CheckpointError, ConfigError, RLError
from rl_core.module import MaskedActorCritic
from rl_core.module.spec import ModuleSpec
from rl_core.onnx import OnnxPolicy, export_onnx
from rl_core.onnx.metadata import KEY, pack, unpack

VECTOR, DISCRETE = spaces.Box(-9, 9, (2,), np.float32), spaces.Discrete(3)
OBS = np.array([0.5, -1.0], np.float32)


@pytest.fixture
def path(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    spec = ModuleSpec(
        model_config=ModelSettings(fcnet_hiddens=(4,), use_gru=True, lstm_cell_size=3, vf_share_layers=True)
    )
    return export_onnx(Policy(spec, VECTOR, DISCRETE, action_connectors=[ActionToEnv()]), tmp_path / "policy.onnx")


def rewrite(path, change):
    """Change the description in a file; `change` gets it parsed and returns what to store."""
    import onnx

    model = onnx.load_model(path)
    (entry,) = [entry for entry in model.metadata_props if entry.key == KEY]
    changed = change(json.loads(entry.value))
    entry.value = changed if isinstance(changed, str) else json.dumps(changed)
    onnx.save_model(model, path)


def test_act_takes_lists_and_other_precisions_and_gives_a_plain_action(path):
    policy = OnnxPolicy(path)
    actions = [policy.act(obs)[0] for obs in (OBS, OBS.tolist(), OBS.astype(np.float64))]
    assert type(actions[0]) is int
    assert len(set(actions)) == 1


def test_a_state_is_not_changed_by_the_call_that_gets_it(path):
    policy = OnnxPolicy(path)
    _, state = policy.act(OBS)
    _, first = policy.act(OBS, state)
    _, second = policy.act(OBS, state)
    assert first.module[0].any()
    np.testing.assert_array_equal(first.module[0], second.module[0])
    assert not policy.initial_state().module[0].any()


def test_what_is_no_state_of_this_policy_is_refused(path):
    policy = OnnxPolicy(path)
    other = Policy(ModuleSpec(model_config=ModelSettings()), VECTOR, DISCRETE, action_connectors=[ActionToEnv()])
    for wrong in (3, (), policy.act(OBS), other.initial_state()):
        with pytest.raises(ValueError, match="act: state is .*, expected what act of this policy returned before"):
            policy.act(OBS, wrong)


@pytest.mark.parametrize("obs", [np.zeros((1, 2)), np.zeros(3), 0.0])
def test_an_observation_of_another_shape_is_refused(path, obs):
    with pytest.raises(ValueError, match=r"act: obs has shape .*, expected \(2,\).*without a batch axis"):
        OnnxPolicy(path).act(obs)


def test_a_mask_that_forbids_every_action_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    space = spaces.Dict(observations=VECTOR, action_mask=spaces.MultiBinary(3))
    policy = Policy(
        ModuleSpec(module_class=MaskedActorCritic, model_config={}), space, DISCRETE, action_connectors=[ActionToEnv()]
    )
    exported = OnnxPolicy(export_onnx(policy, tmp_path / "policy.onnx"))
    assert exported.act({"observations": OBS, "action_mask": np.array([0, 0, 1], np.int8)})[0] == 2
    nothing = {"observations": OBS, "action_mask": np.zeros(3, np.int8)}
    with pytest.raises(ValueError, match="act: the graph gave NaN .* an action mask in it that forbids every action"):
        exported.act(nothing)
    with pytest.raises(ValueError, match="action mask: 1 of 1 rows forbid every action"):
        policy.act(nothing)


def test_exploring_is_refused(path):
    with pytest.raises(ConfigError, match=r"explore=True.*no random numbers"):
        OnnxPolicy(path).act(OBS, explore=True)


def test_a_missing_file_and_one_that_is_no_model_are_refused(path):
    with pytest.raises(CheckpointError, match="Cannot read the policy"):
        OnnxPolicy(path.parent / "other.onnx")
    for content in (b"", b"no model", path.read_bytes()[:500]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"policy\.onnx"):
            OnnxPolicy(path)


def test_a_model_from_elsewhere_is_refused(path):
    import onnx

    model = onnx.load_model(path)
    del model.metadata_props[:]
    onnx.save_model(model, path)
    with pytest.raises(CheckpointError, match=r"holds no policy of this library.*export_onnx"):
        OnnxPolicy(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: "{", "is no JSON"),
        (lambda data: "[" * 100_000, "is no JSON"),
        (lambda data: [data], "does not describe a policy"),
        (lambda data: data | {"format": "other"}, "does not describe a policy"),
        (lambda data: data | {"version": 99}, "has format version 99, this rl-core reads 1"),
        (lambda data: data | {"observation_space": {"type": "Graph"}}, "type is 'Graph'"),
        (lambda data: data | {"connector_state": {"tuple": [1]}}, "statistics of 1 observation connectors"),
        (lambda data: data | {"initial_state": {"tuple": []}}, r"its description says \['obs'\]"),
        (lambda data: data | {"initial_state": {"array": "!", "dtype": "O", "shape": []}}, "array of dtype object"),
        (lambda data: data | {"obs": "other"}, r"its description says \['other', 'state.0'\]"),
        (lambda data: data | {"action": [["action"]]}, "malformed: TypeError"),
        (lambda data: data | {"obs": {"dict": 3}}, "malformed: TypeError"),
        (lambda data: {key: value for key, value in data.items() if key != "action"}, "malformed: KeyError"),
    ],
)
def test_a_changed_description_is_refused(path, change, message):
    rewrite(path, change)
    with pytest.raises(RLError, match=message) as caught:
        OnnxPolicy(path)
    assert "policy.onnx" in str(caught.value)


@pytest.mark.parametrize(
    "piece",
    [
        {"$object": "antigravity:Piece", "fields": {}},
        {"$object": "os:system", "fields": {"command": "exit"}},
        {"$object": "rl_core.policy:Policy", "fields": {}},
        {"$import": "subprocess:run"},
    ],
)
def test_a_file_cannot_import_or_call_what_is_no_connector(path, piece):
    rewrite(path, lambda data: data | {"obs_connectors": [piece]})
    with pytest.raises(ConfigError):
        OnnxPolicy(path)
    assert "antigravity" not in sys.modules


def test_running_needs_no_config_env_algorithm_or_onnx(path):
    script = (
        "import sys\n"
        "from rl_core.onnx import OnnxPolicy\n"
        f"action, state = OnnxPolicy({str(path)!r}).act([0.5, -1.0])\n"
        "needless = ('onnx', 'ray', 'torch._dynamo', 'rl_core.algorithm.config', 'rl_core.env.make')\n"
        "print([name for name in needless if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_extra_is_named(missing, tmp_path, monkeypatch):
    if missing == "onnxruntime":
        pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, missing, None)  # what Python does where an import shall fail
    policy = Policy(ModuleSpec(model_config=ModelSettings()), VECTOR, DISCRETE, action_connectors=[ActionToEnv()])
    with pytest.raises(RLError, match=rf'{missing} is needed .*pip install "rl-core\[onnx\]"'):
        export_onnx(policy, tmp_path / "policy.onnx")
    assert list(tmp_path.iterdir()) == []


def test_trees_survive_being_packed():
    tree = {"a": (np.arange(6, dtype=np.int16).reshape(2, 3), ()), 3: np.array(0.1), "plain": (None, True, 1.5, "text")}
    back = unpack(json.loads(json.dumps(pack(tree))))
    np.testing.assert_array_equal(back["a"][0], tree["a"][0])
    assert back["a"][0].dtype == np.int16
    assert back["a"][1] == ()
    assert back[3].shape == ()
    assert back[3] == 0.1
    assert back["plain"] == tree["plain"]


@pytest.mark.parametrize("leaf", [np.array(["text"]), np.array([None]), object()])
def test_what_is_no_array_of_numbers_is_not_packed(leaf):
    with pytest.raises(RLError, match="has no stored form"):
        pack((leaf,))
