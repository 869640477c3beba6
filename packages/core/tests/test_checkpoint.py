import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl_core import checkpoint as checkpoint_module
from rl_core import storage
from rl_core.checkpoint import ARRAYS, MANIFEST, Checkpoint, newest_checkpoint, save_checkpoint
from rl_core.checkpoint_files import manifest_file
from rl_core.errors import CheckpointError

STATE = {
    "numbers": [1, 2.5, -3, None, True, "word"],
    "tensor": torch.arange(6.0).reshape(2, 3),
    "nested": {"array": np.arange(4, dtype=np.uint32), "pair": (1, (), [])},
}


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


@pytest.fixture
def path(tmp_path):
    return save_checkpoint(tmp_path / "saved", {"counters": {"iteration": 3}, "policies/default": STATE})


def leaves_nothing_behind(folder, *expected):
    return sorted(os.listdir(folder)) == sorted(expected)


plain = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5)
arrays = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).integers(0, 2, shape).astype(dtype),
    st.sampled_from(["?", "<i1", "<i2", "<i8", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", ">f4"]),
    st.sampled_from([(), (0,), (3,), (2, 1, 2)]),
    st.integers(0, 9),
)
NAMES = "float32 float64 float16 bfloat16 bool int64 int32 int16 int8 uint8".split()
tensors = st.builds(
    lambda dtype, shape: torch.ones(shape).to(dtype),
    st.sampled_from([getattr(torch, name) for name in NAMES]),
    st.sampled_from([(), (0,), (3,), (2, 1, 2)]),
)
keys = st.text(max_size=4) | st.sampled_from(["$", "$tensor", "$array", "$tuple", "$$tuple", "$import"])
states = st.recursive(
    plain | arrays | tensors,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=states)
def test_any_state_comes_back_bit_for_bit(tmp_path_factory, state):
    folder = tmp_path_factory.mktemp("any")
    saved = save_checkpoint(folder / "a", {"x": state})
    assert same(Checkpoint(saved).load("x"), state)


@pytest.mark.parametrize(
    "tensor", [torch.tensor(2.0).expand(0), torch.tensor([1, 2]).expand(3, 2)[:1, :1], torch.ones(3, 4).T]
)
def test_tensors_with_odd_strides_come_back(tmp_path, tensor):
    loaded = Checkpoint(save_checkpoint(tmp_path / "a", {"x": tensor})).load("x")
    assert loaded.dtype == tensor.dtype
    assert loaded.shape == tensor.shape
    assert torch.equal(loaded, tensor)


def test_components_can_be_listed_and_read_apart(path):
    checkpoint = Checkpoint(path)
    assert checkpoint.components() == ["counters", "policies/default"]
    assert checkpoint.load("counters") == {"iteration": 3}
    assert same(checkpoint.load("policies/default"), STATE)


def test_a_checkpoint_holds_json_and_safetensors_only(path):
    assert sorted(os.listdir(path)) == [ARRAYS, MANIFEST]
    components = json.loads((path / MANIFEST).read_bytes())["components"]
    assert list(components) == ["counters", "policies/default"]
    assert components["counters"] == {"data": {"iteration": 3}}
    place = components["policies/default"]["arrays"]
    content = (path / ARRAYS).read_bytes()[place["start"] :][: place["bytes"]]
    assert any(torch.equal(tensor, STATE["tensor"]) for tensor in safetensors.torch.load(content).values())


def test_reading_a_component_reads_the_arrays_of_no_other(tmp_path):
    path = save_checkpoint(tmp_path / "a", {name: torch.full((100,), place) for place, name in enumerate("xyz")})
    content = (path / ARRAYS).read_bytes()
    (path / ARRAYS).write_bytes(bytes(len(content) // 2) + content[len(content) // 2 :])
    assert torch.equal(Checkpoint(path).load("z"), torch.full((100,), 2))
    for name in "xy":
        with pytest.raises(CheckpointError, match="is damaged"):
            Checkpoint(path).load(name)


def test_no_code_of_this_package_unpickles_what_comes_from_elsewhere():
    source = Path(checkpoint_module.__file__).parent
    between_processes_of_a_run = source / "runtime/packing.py"  # as Ray does with all else that it sends
    for file in set(source.rglob("*.py")) - {between_processes_of_a_run}:
        text = file.read_text()
        assert "import pickle" not in text, file
        assert "torch.load" not in text.replace("safetensors.torch.load", ""), file
        assert "allow_pickle=True" not in text, file


def test_tensors_that_share_memory_come_back_apart_and_whole(tmp_path):
    base = torch.arange(10.0)
    state = {"a": base, "b": base[2:5], "c": base.view(2, 5).t()}
    assert same(Checkpoint(save_checkpoint(tmp_path / "a", {"x": state})).load("x"), state)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {"b": [object()]}}, r"x\.a\.b\[0\]: a object has no stored form"),
        ({"a": {3}}, "a set has no stored form"),
        ({1: 2}, "mapping keys must be strings"),
        ({"a": np.array(["text"])}, "arrays of dtype <U4 have no stored form"),
        ({"a": np.array([object()])}, "arrays of dtype object have no stored form"),
        ({"a": b"bytes"}, "a bytes has no stored form"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, "tensors of torch.complex64 have no stored form"),
    ],
)
def test_what_cannot_be_stored_is_named_and_nothing_is_left_behind(tmp_path, state, message):
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(tmp_path / "a", {"y": STATE, "x": state})
    assert leaves_nothing_behind(tmp_path)


def test_a_checkpoint_is_never_overwritten(path):
    with pytest.raises(CheckpointError, match="exists already; checkpoints are never overwritten"):
        save_checkpoint(path, {"x": 1})
    assert Checkpoint(path).load("counters") == {"iteration": 3}


# Damage ---------------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_in_any_file_is_noticed(path):
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        content = file.read_bytes()
        for position in range(0, len(content), max(1, len(content) // 25)):
            damaged = bytearray(content)
            damaged[position] ^= 1 << (position % 8)
            file.write_bytes(damaged)
            with pytest.raises(CheckpointError, match="is damaged|does not describe|has format version"):
                Checkpoint(path).verify()
        file.write_bytes(content)
    Checkpoint(path).verify()


def test_a_file_cut_short_or_grown_or_gone_is_noticed(path):
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        content = file.read_bytes()
        for damaged in (b"", content[:-1], content[: len(content) // 2], content + b" x", content + b" "):
            file.write_bytes(damaged)
            with pytest.raises(CheckpointError, match="damaged"):
                Checkpoint(path).verify()
        file.unlink()
        with pytest.raises(CheckpointError, match="is missing|has no manifest"):
            Checkpoint(path).verify()
        file.write_bytes(content)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="There is no checkpoint directory"):
        Checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"is not a checkpoint of this library: it has no manifest\.json"):
        Checkpoint(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="There is no checkpoint directory"):
        Checkpoint(tmp_path / "file")


@pytest.mark.parametrize("inside", ["", "checkpoints"])
def test_a_folder_of_checkpoints_is_refused_with_the_newest(tmp_path, inside):
    for number in (2, 10):
        save_checkpoint(tmp_path / inside / f"iteration_{number:06d}", {"x": 1})
    (tmp_path / inside / "unfinished").mkdir()
    with pytest.raises(CheckpointError, match=r"no manifest\.json\. The newest in it is .*/iteration_000010\."):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("manifest", ["[]", "{}", "3", "null", '{"format": "other", "files": {}}', "{", "\xff"])
def test_a_foreign_manifest_is_refused(tmp_path, manifest):
    (tmp_path / MANIFEST).write_bytes(manifest.encode("latin1"))
    with pytest.raises(CheckpointError, match="does not describe a checkpoint of this library|is not JSON"):
        Checkpoint(tmp_path)


def change_manifest(path, components=None, **changes):
    """Write a manifest that agrees with itself, as somebody with bad intentions would."""
    manifest = {**json.loads((path / MANIFEST).read_text()), **changes}
    del manifest["sha256"]
    components = manifest.pop("components") | (components or {})
    (path / MANIFEST).write_bytes(manifest_file(manifest, components))


@pytest.mark.parametrize("version", [1, 3, 0, None, "2"])
def test_another_format_version_is_refused_with_what_to_do(path, version):
    change_manifest(path, version=version)
    with pytest.raises(CheckpointError, match=r"format version .*, this rl-core reads 2\. Use the version of rl-core"):
        Checkpoint(path)


def test_a_manifest_without_components_is_refused(path):
    (path / MANIFEST).write_bytes(manifest_file({"format": "rl-core checkpoint", "version": 2, "components": 1}, {}))
    text = (path / MANIFEST).read_bytes().replace(b'"components": {\n\n}', b'"other": 1')
    rest = text.partition(b"\n")[2]
    (path / MANIFEST).write_bytes(b'{"sha256": "%s",\n' % hashlib.sha256(rest).hexdigest().encode() + rest)
    with pytest.raises(CheckpointError, match="does not describe a checkpoint of this library"):
        Checkpoint(path)


SHA256 = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("entry", [None, 3, [], {}, {"arrays": {}}])
def test_a_bad_entry_in_the_manifest_is_refused(path, entry):
    change_manifest(path, {"counters": entry})
    with pytest.raises(CheckpointError, match="has a bad entry 'counters'|is malformed at counters"):
        Checkpoint(path).load("counters")


@pytest.mark.parametrize(
    "place",
    [
        None,
        [0, 0],
        {"start": 0, "bytes": "many", "sha256": SHA256},
        {"start": 0, "bytes": 0, "sha256": None},
        {"start": -1, "bytes": 1, "sha256": SHA256},
        {"start": 1, "bytes": -1, "sha256": SHA256},
        {"start": 0, "bytes": 2**62, "sha256": SHA256},
        {"start": 0.0, "bytes": 0, "sha256": SHA256},
        {"start": 10**9, "bytes": 0, "sha256": SHA256},
    ],
)
def test_arrays_outside_the_file_are_refused(path, place):
    change_manifest(path, {"counters": {"data": 1, "arrays": place}})
    for read in (lambda checkpoint: checkpoint.load("counters"), Checkpoint.verify):
        with pytest.raises(CheckpointError, match="has a bad entry 'counters'"):
            read(Checkpoint(path))


@pytest.mark.parametrize(
    "data",
    [
        '{"$tensor": "99"}',
        '{"$tensor": [1]}',
        '{"$array": "0", "dtype": "O", "shape": [1]}',
        '{"$array": "0", "dtype": "V8", "shape": [1]}',
        '{"$array": "0", "dtype": "f8", "shape": [-7]}',
        '{"$array": "0", "dtype": "f8", "shape": [99999999999999]}',
        '{"$array": "0"}',
        '{"$array": "0", "dtype": "no", "shape": [1]}',
        '{"$tuple": 3}',
        "[" * 600 + "]" * 600,
    ],
)
def test_malformed_data_is_refused_with_our_errors_only(path, data):
    place = json.loads((path / MANIFEST).read_text())["components"]["policies/default"]["arrays"]
    change_manifest(path, {"policies/default": {"data": json.loads(data), "arrays": place}})
    with pytest.raises(CheckpointError, match="is malformed at policies/default"):
        Checkpoint(path).load("policies/default")


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "", "\xff\xfe"])
def test_a_manifest_that_is_not_json_is_refused(path, text):
    (path / MANIFEST).write_bytes(text.encode("latin1"))
    with pytest.raises(CheckpointError, match="is damaged: it is not JSON"):
        Checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x80\x04\x95" + b"x" * 50, (2**62).to_bytes(8, "little")])
def test_malformed_tensors_are_refused(path, content):
    (path / ARRAYS).write_bytes(content)
    place = {"start": 0, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change_manifest(path, {"policies/default": {"data": 1, "arrays": place}}, bytes=len(content))
    with pytest.raises(CheckpointError, match="does not hold a safetensors file for policies/default"):
        Checkpoint(path).load("policies/default")


def test_a_huge_json_file_is_refused_before_it_is_parsed(path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "MAX_JSON_BYTES", 100)
    with pytest.raises(CheckpointError, match="is larger than 100 bytes"):
        Checkpoint(path)


# The disk -------------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="Cannot write the checkpoint"):
        save_checkpoint(tmp_path / "file" / "below", {"x": 1})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_reported(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="Permission denied"):
        save_checkpoint(tmp_path / "a", {"x": 1})
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("place", "after"),
    [
        ((storage, "_begin_sync"), 0),
        ((storage, "_begin_sync"), 1),
        *(((storage, "sync"), after) for after in (0, 1, 2)),
    ],
)
def test_a_failing_disk_leaves_earlier_checkpoints_and_nothing_else(tmp_path, path, monkeypatch, place, after):
    real, calls = getattr(*place), []

    def failing(target, *rest):
        calls.append(target)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(target, *rest)

    monkeypatch.setattr(*place, failing)
    with pytest.raises(CheckpointError, match=r"No space left on device.*What was saved before is untouched"):
        save_checkpoint(tmp_path / "next", {"policies/default": STATE, "a": {}, "b": {}, "c": {}})
    monkeypatch.undo()
    assert leaves_nothing_behind(tmp_path, "saved")
    assert newest_checkpoint(tmp_path) == path


def test_what_a_killed_process_left_half_written_is_not_in_the_way(tmp_path):
    left = tmp_path / f".a.{os.getpid()}.tmp"
    (left / "x").mkdir(parents=True)
    (left / "x" / "data.json").write_text("old")
    assert Checkpoint(save_checkpoint(tmp_path / "a", {"x": {"new": 1}})).load("x") == {"new": 1}
    assert leaves_nothing_behind(tmp_path, "a")


def test_the_newest_checkpoint_that_is_whole_is_found(tmp_path):
    for number in range(4):
        save_checkpoint(tmp_path / f"iteration_{number}", {"x": number})
    (tmp_path / "iteration_3" / MANIFEST).write_text("9")
    (tmp_path / "iteration_2" / MANIFEST).unlink()
    (tmp_path / ".iteration_5.1.tmp").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert newest_checkpoint(tmp_path).name == "iteration_1"


def test_where_no_checkpoint_is_whole_each_problem_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="There is no usable checkpoint in"):
        newest_checkpoint(tmp_path / "nowhere")
    save_checkpoint(tmp_path / "a", {"x": 1})
    (tmp_path / "a" / MANIFEST).write_text("99 9")
    (tmp_path / "b").mkdir()
    with pytest.raises(
        CheckpointError, match=r"(?s)no usable checkpoint.*b is not a checkpoint.*manifest\.json is damaged"
    ):
        newest_checkpoint(tmp_path)
