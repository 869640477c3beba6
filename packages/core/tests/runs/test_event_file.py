import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_core.metrics import Image, Series, Video
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


def test_crc_of_more_than_a_block():
    data = np.random.default_rng(0).integers(0, 256, 3 * 4096 + 2, dtype=np.uint8).tobytes()
    for size in (4095, 4096, 4097, 4099, 8192, len(data)):
        assert _crc32c(data[:size]) == slow_crc32c(data[:size])


def test_tensorboard_reads_images_videos_and_histograms(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pictures = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    file = EventFile(tmp_path)
    media = {"map": Image(pixels), "film": Video(np.stack([pixels] * 3), 4.0), "lengths": Series([1.0, 2.0, 2.0, 11.0])}
    file.write(7, {"a": 1.0}, media)
    file.write(8, {"a": 2.0}, {"lengths": Series([math.nan])})
    file.close()
    events = accumulator.EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {"map", "film"}
    (image,), (film,) = events.Images("map"), events.Images("film")
    assert (image.step, image.width, image.height) == (7, 50, 60)
    np.testing.assert_array_equal(np.array(pictures.open(io.BytesIO(image.encoded_image_string))), pixels)
    assert pictures.open(io.BytesIO(film.encoded_image_string)).n_frames == 3
    full, empty = (event.histogram_value for event in events.Histograms("lengths"))
    assert (full.min, full.max, full.num, full.sum, full.sum_squares) == (1.0, 11.0, 4.0, 16.0, 130.0)
    assert (sum(full.bucket), full.bucket_limit[-1], sum(empty.bucket)) == (4.0, 11.0, 0.0)
    assert [event.value for event in events.Scalars("a")] == [1.0, 2.0]


def test_files_of_one_second_are_read_in_their_order(tmp_path, monkeypatch):
    for number, nanoseconds in enumerate((5 * 10**9 + 99, 5 * 10**9 + 100_000)):
        monkeypatch.setattr("rl_core.runs.event_file.time.time_ns", lambda now=nanoseconds: now)
        EventFile(tmp_path / str(number)).close()
    first, second = (path.name for number in "01" for path in (tmp_path / number).iterdir())
    assert first < second
