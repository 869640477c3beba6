"""Lines between processes: what is sent arrives in order, and each end learns that the other is gone."""

import os
import resource
import stat
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from rl_core.runtime.line import SMALL, Line, Listener, Memory, dial, listen
from rl_core.runtime.packing import ALIGNMENT, pack, unpack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Lines are Linux's.")


@pytest.fixture
def ends():
    listener = Listener()
    far = dial(listener.address)
    near = listener.accept()
    yield near, far
    near.close()
    far.close()


def some(size):
    return np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)


def message(nbytes):
    """Write down bytes that take so many with what stands around them."""
    packed = pack(some(nbytes - 69).tobytes())
    assert packed.nbytes == nbytes
    return packed


@pytest.mark.parametrize("nbytes", [100, SMALL, SMALL + 1, 3_000_001])
def test_bytes_arrive_as_they_were_and_may_be_written_to(ends, nbytes):
    near, far = ends
    sent = message(nbytes)
    near.send(sent)
    found, attached = far.receive()
    assert attached is None
    np.testing.assert_array_equal(found, sent.joined())
    assert found.ctypes.data % ALIGNMENT == 0
    found[:] = 0


@pytest.mark.parametrize("number", [1, 300, 3000])
def test_arrays_arrive_however_many_there_are_and_what_was_sent_stays(ends, number):
    near, far = ends
    sent = [some(place % 5) for place in range(number)]
    near.send(pack(sent))
    found = unpack(far.receive()[0])
    for arrived, array in zip(found, sent, strict=True):
        np.testing.assert_array_equal(arrived, array)
        arrived[:] = 0
    assert np.concatenate(sent)[-1:].any() == (number > 1)


def test_what_comes_next_leaves_what_came_alone(ends):
    near, far = ends
    near.send(pack(np.ones(5)))
    near.send(pack(np.zeros(5)))
    first, second = (unpack(far.receive()[0]) for _ in range(2))
    far.send(pack(0))
    near.send(pack(np.full(5, 2.0)))
    third = unpack(far.receive()[0])
    assert (first.tolist(), second.tolist(), third.tolist()) == ([1.0] * 5, [0.0] * 5, [2.0] * 5)


def test_messages_keep_their_order_whichever_way_they_go(ends):
    near, far = ends
    sizes = [80, SMALL + 10, 90, SMALL + 20, SMALL + 30, 100]
    for size in sizes:
        far.send(message(size))
    assert [len(near.receive()[0]) for _ in sizes] == sizes


@pytest.mark.parametrize("nbytes", [80, SMALL + 1])
def test_what_is_attached_is_read_by_each_for_itself(ends, nbytes):
    near, far = ends
    memory = Memory(some(200_000))
    for _ in range(2):
        near.send(message(nbytes), memory)
    first = far.receive()[1]
    first[:] = 0
    del memory
    received, attached = far.receive()
    np.testing.assert_array_equal(received, message(nbytes).joined())
    np.testing.assert_array_equal(attached, some(200_000))


def test_a_record_that_crosses_is_not_copied_again(ends):
    near, far = ends
    near.send(pack({"rewards": np.arange(100_000.0)}))
    packed, _ = far.receive()
    rewards = unpack(packed)["rewards"]
    assert np.shares_memory(rewards, packed)
    np.testing.assert_array_equal(rewards, np.arange(100_000.0))


def test_what_was_sent_before_an_end_is_gone_still_arrives(ends):
    near, far = ends
    far.send(message(80))
    far.close()
    assert len(near.receive()[0]) == 80
    with pytest.raises(EOFError, match="The other end of the line is gone"):
        near.receive()
    with pytest.raises(BrokenPipeError):
        near.send(message(80))


def test_an_end_that_hangs_up_wakes_both(ends):
    near, far = ends
    threading.Timer(0.05, near.hang_up).start()
    for end in (far, near):
        with pytest.raises(EOFError):
            end.receive()


def test_nothing_stays_open(ends):
    near, far = ends

    def open_files():
        return len(os.listdir("/proc/self/fd"))

    before, kept = open_files(), []
    for _ in range(50):
        near.send(message(SMALL + 1))
        kept.append(far.receive())
    assert open_files() == before, "not even while what arrived is in use"


def test_a_process_with_too_many_files_says_so(ends):
    near, far = ends
    near.send(message(SMALL + 1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(near.fileno(), far.fileno()) + 1, hard))
    held = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                held.append(os.dup(0))
        with pytest.raises(OSError, match="Too many open files"):
            far.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


def test_only_this_user_can_connect_and_only_once():
    listener = Listener()
    folder = Path(listener.address).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    far = dial(listener.address)
    assert isinstance(far, Line)
    near = listener.accept()
    assert not folder.exists()
    assert dial(listener.address) is None
    near.close()
    far.close()


def test_where_there_can_be_no_line_there_is_none(monkeypatch, tmp_path):
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    assert listen() is None, "the path is too long for a socket"
    assert not list(deep.iterdir())
    monkeypatch.undo()
    listen().close()
    monkeypatch.delattr(os, "memfd_create")
    assert listen() is None
