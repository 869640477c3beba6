"""PNG files, and animated ones, which browsers play: lossless, in full colour, and written without a library.

Source: W3C, Portable Network Graphics (PNG) Specification, Third Edition, 2025: sections 5 and 11, animation included.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR_TYPES = {1: 0, 3: 2, 4: 6}
"""Greyscale, RGB, RGBA: by number of channels."""


def encode_png(frames: np.ndarray, *, fps: float = 1.0) -> bytes:
    """Return a PNG file.

    Args:
        frames: `[T, H, W, C]`, uint8. More than one make an animation that repeats.
        fps: Frames per second.
    """
    num_frames, height, width, channels = frames.shape
    header = struct.pack(">IIBBBBB", width, height, 8, COLOR_TYPES[channels], 0, 0, 0)
    chunks = [SIGNATURE, _chunk(b"IHDR", header)]
    if num_frames == 1:
        chunks.append(_chunk(b"IDAT", _compressed(frames[0])))
    else:
        chunks.append(_chunk(b"acTL", struct.pack(">II", num_frames, 0)))
        delay_ms = min(65_535, max(1, round(1000 / fps)))
        number = 0  # of control and data chunks together; the first frame's data has none
        for place, frame in enumerate(frames):
            control = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, delay_ms, 1000, 0, 0)
            chunks.append(_chunk(b"fcTL", control))
            number += 1
            if place == 0:
                chunks.append(_chunk(b"IDAT", _compressed(frame)))
            else:
                chunks.append(_chunk(b"fdAT", struct.pack(">I", number) + _compressed(frame)))
                number += 1
    return b"".join([*chunks, _chunk(b"IEND", b"")])


def _compressed(frame: np.ndarray) -> bytes:
    """Compress a frame, each of its lines behind a zero: no filter."""
    lines = frame.reshape(frame.shape[0], -1)
    return zlib.compress(np.pad(lines, ((0, 0), (1, 0))).tobytes())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
