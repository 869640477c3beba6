import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_core.runs.event_file import EventFile, _crc32c


def slow_crc32c(data):
    """Bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_crc_of_the_check_value():
    assert _crc32c(b"123456789") == 0xE3069283


@given(st.binary(max_size=700))
def test_crc_agrees_with_the_definition(data):
    assert _crc32c(data) == slow_crc32c(data)


def scalars(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_the_scalars(tmp_path):
    file = EventFile(tmp_path)
    file.write(128, {"a/return": 1.5, "b": math.nan, "c": 3, "text": "no", "huge": 1e300}, {})
    file.write(2**40, {"a/return": -2.0, "ü": 0.25}, {})
    file.close()
    found = scalars(tmp_path)
    assert found["a/return"] == [(128, 1.5), (2**40, -2.0)]
    assert found["c"] == [(128, 3.0)]
    assert found["ü"] == [(2**40, 0.25)]
    assert set(found) == {"a/return", "c", "ü", "huge"}


def test_a_resumed_file_makes_tensorboard_forget_later_steps(tmp_path, monkeypatch):
    times = iter(range(1000, 10_000))
    monkeypatch.setattr("rl_core.runs.event_file.time.time", lambda: float(next(times)))
    first = EventFile(tmp_path)
    for step in (10, 20, 30):
        first.write(step, {"return": float(step)}, {})
    first.close()
    second = EventFile(tmp_path, first_step=21)
    second.write(30, {"return": 99.0}, {})
    second.close()
    assert scalars(tmp_path)["return"] == [(10, 10.0), (20, 20.0), (30, 99.0)]
