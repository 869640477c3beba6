"""Checkpoints in the background, and what a kill or a full disk at any moment leaves."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from rl_core.checkpoint import Checkpoint, capture_checkpoint, newest_checkpoint, save_checkpoint
from rl_core.checkpoint_writer import CheckpointWriter
from rl_core.errors import CheckpointError

KILLER = """
import os, random, signal, sys, time, torch
from pathlib import Path
from rl_core.checkpoint import Checkpoint, capture_checkpoint, newest_checkpoint
from rl_core.checkpoint_writer import CheckpointWriter
from rl_core.storage import LocalFolder, remove_leftovers
folder, moments, rng, number = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0), 0
state = {"weights": torch.arange(200_000.0), "list": list(range(2000))}

def save_on_and_on(number, pipe):
    writer = CheckpointWriter()
    while True:
        path = folder / f"iteration_{number:06d}"
        captured = capture_checkpoint(path, {"x": {**state, "number": number}, "y": state, "z": state})
        writer.start(captured, wait=number % 2 == 0)
        if number % 2:
            time.sleep(0.003)  # what training does meanwhile
            writer.wait()
        os.write(pipe, number.to_bytes(4, "little"))
        if number > 5:
            LocalFolder(folder / f"iteration_{number - 5:06d}").remove()
        number += 1

for moment in range(moments):
    ours, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        save_on_and_on(number, pipe)
    os.close(pipe)
    time.sleep(0.005 + 0.25 * rng.random())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = b""
    while part := os.read(ours, 1 << 16):
        told += part
    os.close(ours)
    completed = int.from_bytes(told[-4:], "little") if told else number - 1
    remove_leftovers(LocalFolder(folder))
    names = os.listdir(folder)
    assert all(name.startswith("iteration_") for name in names), names
    for name in names:
        Checkpoint(folder / name).verify()
    if names:
        newest = newest_checkpoint(folder)
        number = Checkpoint(newest).load("x")["number"] + 1
        assert newest.name == max(names) == f"iteration_{number - 1:06d}"
        assert number - 1 in (completed, completed + 1), "complete, and killed before it could say so"
print(number)
"""


@pytest.mark.parametrize("moments", [20, pytest.param(200, marks=pytest.mark.learning)])
def test_a_process_killed_at_any_moment_leaves_the_last_completed_checkpoint_as_the_newest(tmp_path, moments):
    command = [sys.executable, "-c", KILLER, str(tmp_path), str(moments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert int(done.stdout) > moments / 4


def test_what_is_written_in_the_background_is_what_was_captured(tmp_path):
    state = {"tensor": torch.ones(3), "array": np.ones(3), "list": [1, {"a": 2}]}
    writer = CheckpointWriter()
    captured = capture_checkpoint(tmp_path / "a", {"x": state}, notes={"score": 2.5})
    state["tensor"].zero_()
    state["array"][:] = 0
    state["list"][1]["a"] = 0
    writer.start(captured, wait=False)
    writer.wait()
    assert writer.written == [tmp_path / "a"]
    loaded = Checkpoint(tmp_path / "a").load("x")
    assert loaded["tensor"].tolist() == loaded["array"].tolist() == [1, 1, 1]
    assert loaded["list"] == [1, {"a": 2}]
    assert Checkpoint(tmp_path / "a").notes == {"score": 2.5}


def test_a_failure_in_the_background_is_raised_once_by_who_comes_next(tmp_path):
    (tmp_path / "file").write_text("x")
    writer = CheckpointWriter()
    writer.start(capture_checkpoint(tmp_path / "file" / "a", {"x": 1}), wait=False)
    good = capture_checkpoint(tmp_path / "b", {"x": 1})
    with pytest.raises(CheckpointError, match="Cannot write the checkpoint .*file/a"):
        writer.start(good, wait=False)
    assert not (tmp_path / "b").exists()
    writer.start(good, wait=False)
    writer.wait()
    assert Checkpoint(tmp_path / "b").load("x") == 1


def test_the_interpreter_waits_for_a_checkpoint_in_the_background(tmp_path):
    code = f"""
import torch
from rl_core.checkpoint import capture_checkpoint
from rl_core.checkpoint_writer import CheckpointWriter
captured = capture_checkpoint({str(tmp_path / "a")!r}, {{"x": torch.zeros(5_000_000)}})
CheckpointWriter().start(captured, wait=False)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
    assert Checkpoint(tmp_path / "a").load("x").shape == (5_000_000,)


FULL = """
import resource, sys, torch
from pathlib import Path
from rl_core.checkpoint import newest_checkpoint, save_checkpoint
from rl_core.errors import CheckpointError
folder = Path(sys.argv[1])
save_checkpoint(folder / "iteration_000001", {"x": torch.zeros(1000)})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(folder / "iteration_000002", {"x": torch.zeros(1_000_000)})
except CheckpointError as error:
    print(error)
print(sorted(path.name for path in folder.iterdir()), newest_checkpoint(folder).name)
"""


def test_files_that_may_not_grow_leave_the_last_good_checkpoint_and_nothing_else(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    message, rest = done.stdout.splitlines()
    assert "Cannot write the checkpoint" in message
    assert "File too large" in message
    assert "What was saved before is untouched." in message
    assert rest == "['iteration_000001'] iteration_000001"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one mebibyte, where one can be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_leaves_the_last_good_checkpoint_and_its_room(small_disk):
    save_checkpoint(small_disk / "iteration_000001", {"x": torch.zeros(1000)})
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"No space left on device.*What was saved before is untouched"):
            save_checkpoint(small_disk / "iteration_000002", {"x": torch.zeros(1_000_000)})
    save_checkpoint(small_disk / "iteration_000002", {"x": torch.zeros(100_000)})
    assert newest_checkpoint(small_disk).name == "iteration_000002"
