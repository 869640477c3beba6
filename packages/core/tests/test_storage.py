"""Checkpoints in file systems of fsspec."""

import fsspec
import numpy as np
import pytest
import torch

from rl_core import Algorithm, Policy, PPOConfig
from rl_core.checkpoint import ARRAYS, MANIFEST, Checkpoint, newest_checkpoint, save_checkpoint
from rl_core.errors import CheckpointError
from rl_core.storage import folder_at

STATE = {"tensor": torch.arange(6.0), "array": np.arange(4, dtype=np.uint32), "pair": (1, "word")}


@pytest.fixture
def memory():
    yield "memory://checkpoints"
    system = fsspec.filesystem("memory")
    if system.exists("/checkpoints"):
        system.rm("/checkpoints", recursive=True)


def test_a_checkpoint_in_any_file_system_of_fsspec(memory):
    location = save_checkpoint(f"{memory}/iteration_1", {"x": STATE, "policies/default": STATE}, notes={"score": 1})
    checkpoint = Checkpoint(location)
    checkpoint.verify()
    assert checkpoint.components() == ["policies/default", "x"]
    assert checkpoint.notes == {"score": 1}
    loaded = checkpoint.load("policies/default")
    assert torch.equal(loaded["tensor"], STATE["tensor"])
    assert np.array_equal(loaded["array"], STATE["array"])
    assert loaded["pair"] == STATE["pair"]
    with pytest.raises(CheckpointError, match="memory://checkpoints/iteration_1 exists already"):
        save_checkpoint(location, {"x": 1})
    assert newest_checkpoint(memory) == location
    with pytest.raises(CheckpointError, match="There is no checkpoint directory memory://checkpoints/iteration_2"):
        Checkpoint(f"{memory}/iteration_2")


def test_a_run_goes_on_from_it_bit_for_bit(memory):
    algorithm = PPOConfig().environment("CartPole-v1").training(train_batch_size_per_learner=256).build()
    algorithm.train()
    location = algorithm.save(f"{memory}/run", wait=False)
    expected = algorithm.train()
    algorithm.stop()
    again = Algorithm.from_checkpoint(location)
    assert again.train()["learner/default/total_loss"] == expected["learner/default/total_loss"]
    assert Policy.from_checkpoint(location).act([0.0, 0.0, 0.05, 0.0])[0] in (0, 1)


def test_file_urls_are_paths(tmp_path):
    location = save_checkpoint(f"file://{tmp_path}/a", {"x": 1})
    assert Checkpoint(location).load("x") == Checkpoint(tmp_path / "a").load("x") == 1


@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_failed_upload_leaves_nothing(memory, monkeypatch, fail_at):
    first = save_checkpoint(f"{memory}/iteration_1", {"x": STATE, "y": STATE})
    system, calls = fsspec.filesystem("memory"), []
    real = type(system).pipe_file

    def failing(self, path, *rest, **options):
        calls.append(path)
        if len(calls) > fail_at:
            raise RuntimeError("the bucket went away")
        return real(self, path, *rest, **options)

    monkeypatch.setattr(type(system), "pipe_file", failing)
    with pytest.raises(CheckpointError, match=r"Cannot write .*iteration_2: RuntimeError: the bucket went away"):
        save_checkpoint(f"{memory}/iteration_2", {"x": STATE, "y": STATE})
    monkeypatch.undo()
    assert newest_checkpoint(memory) == first
    assert not system.exists("/checkpoints/iteration_2")


def test_without_its_manifest_it_is_none(memory):
    save_checkpoint(f"{memory}/iteration_1", {"x": STATE})
    fsspec.filesystem("memory").rm_file(f"/checkpoints/iteration_1/{MANIFEST}")
    with pytest.raises(CheckpointError, match=r"has no manifest\.json"):
        newest_checkpoint(memory)


def test_the_manifest_is_uploaded_last_and_deleted_first(memory, monkeypatch):
    system, calls = fsspec.filesystem("memory"), []
    for name in ("pipe_file", "rm_file"):
        real = getattr(type(system), name)

        def noting(self, path, *rest, real=real, **options):
            calls.append(path.rpartition("/")[2])
            return real(self, path, *rest, **options)

        monkeypatch.setattr(type(system), name, noting)
    save_checkpoint(f"{memory}/a", {"x": STATE})
    assert calls == [ARRAYS, MANIFEST]
    calls.clear()
    folder_at(f"{memory}/a").remove(first=MANIFEST)
    assert calls[0] == MANIFEST
    assert not folder_at(f"{memory}/a").taken()


def test_an_unknown_file_system_is_refused():
    with pytest.raises(CheckpointError, match="nosuch://a: Protocol not known: nosuch"):
        save_checkpoint("nosuch://a", {"x": 1})
