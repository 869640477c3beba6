import io
import struct
import zlib

import numpy as np
import pytest

from rl_core.runs.png import encode_png

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_is_read_back_as_it_was(channels):
    pixels = RNG.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(encode_png(pixels[np.newaxis])))
    image.verify()
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(encode_png(pixels[np.newaxis])))
    np.testing.assert_array_equal(np.array(image).reshape(pixels.shape), pixels)


def test_a_video_is_an_animation_with_all_frames_at_their_speed():
    frames = RNG.integers(0, 256, (6, 4, 3, 3), dtype=np.uint8)
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(encode_png(frames, fps=20)))
    assert (image.n_frames, image.is_animated, image.info["loop"]) == (6, True, 0)
    for number, frame in enumerate(frames):
        image.seek(number)
        np.testing.assert_array_equal(np.array(image.convert("RGB")), frame)
        assert image.info["duration"] == 50


def test_chunks_have_lengths_and_checksums():
    data = encode_png(np.zeros((3, 2, 2, 1), np.uint8), fps=1e9)
    place, kinds = 8, []
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", data, place + 8 + length) == (zlib.crc32(kind + body),)
        kinds.append(kind)
        place += 12 + length
    assert kinds == [b"IHDR", b"acTL", b"fcTL", b"IDAT", b"fcTL", b"fdAT", b"fcTL", b"fdAT", b"IEND"]
