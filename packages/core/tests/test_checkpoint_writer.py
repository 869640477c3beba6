"""Checkpoints in the background, and what a kill or a full disk at any moment leaves."""

import enum
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from rl_core.checkpoint import Checkpoint, encode_checkpoint, newest_checkpoint, save_checkpoint
from rl_core.checkpoint_writer import CheckpointWriter
from rl_core.errors import CheckpointError

KILLER = """
import ctypes, os, random, signal, sys, time, torch
from contextlib import nullcontext
from pathlib import Path
from rl_core.checkpoint import Checkpoint, encode_checkpoint, newest_checkpoint
from rl_core.checkpoint_writer import CheckpointWriter
from rl_core.storage import LocalFolder, remove_leftovers
folder, moments, rng, number = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0), 0
state = {"weights": torch.arange(200_000.0), "list": list(range(2000))}

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: the process that writes can be waited for, too

def save_on_and_on(number, pipe):
    os.setpgid(0, 0)
    writer = CheckpointWriter()
    while True:
        path = folder / f"iteration_{number:06d}"
        encoded = encode_checkpoint(path, {"x": {**state, "number": number}, "y": state, "z": state})
        writer.start(encoded, wait=number % 2 == 0)
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
    if moment % 2:
        os.kill(child, signal.SIGKILL)  # the process that writes completes what it was given
    else:
        os.killpg(child, signal.SIGKILL)
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass
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


def test_what_is_written_in_the_background_is_what_was_encoded(tmp_path):
    state = {"tensor": torch.ones(3), "array": np.ones(3), "list": [1, {"a": 2}]}
    writer = CheckpointWriter()
    encoded = encode_checkpoint(tmp_path / "a", {"x": state}, notes={"score": 2.5})
    state["list"][1]["a"] = 0
    writer.start(encoded, wait=False)
    state["tensor"].zero_()
    state["array"][:] = 0
    writer.wait()
    assert writer.take_written() == [tmp_path / "a"]
    loaded = Checkpoint(tmp_path / "a").load("x")
    assert loaded["tensor"].tolist() == loaded["array"].tolist() == [1, 1, 1]
    assert loaded["list"] == [1, {"a": 2}]
    assert Checkpoint(tmp_path / "a").notes == {"score": 2.5}


def test_a_failure_in_the_background_is_raised_once_by_who_comes_next(tmp_path):
    (tmp_path / "file").write_text("x")
    writer = CheckpointWriter()
    writer.start(encode_checkpoint(tmp_path / "file" / "a", {"x": 1}), wait=False)
    good = encode_checkpoint(tmp_path / "b", {"x": 1})
    with pytest.raises(CheckpointError, match="Cannot write the checkpoint .*file/a"):
        writer.start(good, wait=False)
    assert not (tmp_path / "b").exists()
    writer.start(good, wait=False)
    writer.wait()
    assert Checkpoint(tmp_path / "b").load("x") == 1


@pytest.mark.parametrize("file_system", ["", "memory://"])
def test_what_stands_in_its_place_is_never_overwritten(tmp_path, file_system):
    writer, place = CheckpointWriter(), f"{file_system}{tmp_path}/a"
    for number in (1, 2):
        writer.start(encode_checkpoint(place, {"x": number}), wait=False)
        with pytest.raises(CheckpointError, match="a exists already") if number == 2 else nullcontext():
            writer.wait()
    assert Checkpoint(place).load("x") == 1


def test_a_process_that_is_killed_is_replaced_and_what_it_had_is_written(tmp_path):
    writer = CheckpointWriter()
    state = torch.ones(20_000_000)
    writer.start(encode_checkpoint(tmp_path / "a", {"x": state}), wait=False)
    state.zero_()
    writer._process._process.kill()
    writer.wait()
    assert Checkpoint(tmp_path / "a").load("x").sum() == 20_000_000
    for name in ("b", "c"):
        writer.start(encode_checkpoint(tmp_path / name, {"x": torch.ones(3)}), wait=False)
        writer.wait()
        Checkpoint(tmp_path / name).verify()
    assert writer.take_written() == [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    writer.close()


def test_a_process_that_is_killed_before_it_looks_overwrites_nothing(tmp_path):
    save_checkpoint(tmp_path / "a", {"x": 1})
    writer = CheckpointWriter()
    writer.start(encode_checkpoint(tmp_path / "b", {"x": 2}), wait=False)
    writer.wait()
    writer._process._process.send_signal(signal.SIGSTOP)
    writer.start(encode_checkpoint(tmp_path / "a", {"x": 3}), wait=False)
    writer._process._process.kill()
    with pytest.raises(CheckpointError, match="a exists already"):
        writer.wait()
    assert writer.take_written() == [tmp_path / "b"]
    assert Checkpoint(tmp_path / "a").load("x") == 1
    writer.close()


def test_processes_that_were_forked_since_then_keep_nobody_waiting(tmp_path):
    writer = CheckpointWriter()
    writer.start(encode_checkpoint(tmp_path / "a", {"x": 1}), wait=False)
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    try:
        writer.close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert Checkpoint(tmp_path / "a").load("x") == 1


def test_a_relative_path_stays_where_it_was_and_large_checkpoints_keep_no_memory(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    writer = CheckpointWriter()
    writer.start(encode_checkpoint("a", {"x": torch.ones(6_000_000)}), wait=False)
    monkeypatch.chdir(tmp_path)
    writer.wait()
    assert os.fstat(writer._process._memory.fileno()).st_size == 0
    writer.start(encode_checkpoint("b", {"x": torch.ones(3)}), wait=False)
    writer.wait()
    assert writer.take_written() == [Path("a"), Path("b")]
    assert Checkpoint(tmp_path / "elsewhere/a").load("x").sum() == 6_000_000
    assert Checkpoint(tmp_path / "b").load("x").tolist() == [1, 1, 1]
    writer.close()


class Level(enum.IntEnum):
    HIGH = 3


def test_values_that_inherit_from_plain_ones_are_stored_as_these(tmp_path):
    state = {"enum": Level.HIGH, "number": np.float64(0.5), "flag": np.bool_(True)}
    for place, wait in enumerate((True, False)):
        writer = CheckpointWriter()
        notes = {"score": np.float64(1.5), "level": Level.HIGH}
        writer.start(encode_checkpoint(tmp_path / str(place), {"x": state}, notes=notes), wait=wait)
        writer.close()
        loaded = Checkpoint(tmp_path / str(place))
        assert loaded.load("x") == {"enum": 3, "number": 0.5, "flag": True}
        assert loaded.notes == {"score": 1.5, "level": 3}


def test_other_file_systems_are_written_by_a_thread(tmp_path):
    state = torch.ones(3)
    writer = CheckpointWriter()
    writer.start(encode_checkpoint("memory://in-a-thread", {"x": state}), wait=False)
    state.zero_()
    writer.wait()
    assert writer.take_written() == ["memory://in-a-thread"]
    assert Checkpoint("memory://in-a-thread").load("x").tolist() == [1, 1, 1]


def test_the_interpreter_waits_for_a_checkpoint_in_the_background(tmp_path):
    code = f"""
import torch
from rl_core.checkpoint import encode_checkpoint
from rl_core.checkpoint_writer import CheckpointWriter
encoded = encode_checkpoint({str(tmp_path / "a")!r}, {{"x": torch.zeros(5_000_000)}})
CheckpointWriter().start(encoded, wait=False)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
    assert Checkpoint(tmp_path / "a").load("x").shape == (5_000_000,)


FULL = """
import resource, sys, torch
from contextlib import nullcontext
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
