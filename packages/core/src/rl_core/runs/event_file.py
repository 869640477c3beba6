"""TensorBoard event files, written without TensorBoard: importing its writer takes longer than solving CartPole.

A file is a sequence of records `length u64, masked crc32c of length u32, payload, masked crc32c of payload u32`, all
little-endian. The payload is the protobuf message `Event`.
Source: TensorFlow, core/lib/io/record_writer.h, core/util/event.proto, core/framework/summary.proto.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rl_core.metrics import Image, Media, Series
from rl_core.runs.png import encode_png

FLUSH_INTERVAL_S = 1.0
HISTOGRAM_BINS = 30


class EventFile:
    """Writes scalars, pictures and histograms, all of one step as one event."""

    def __init__(self, folder: Path, *, first_step: int = 0) -> None:
        """Open a new file in `folder`.

        Args:
            folder: Where TensorBoard is pointed at; made if missing.
            first_step: The step this file begins with; TensorBoard forgets later ones of earlier files. 0 keeps all.
        """
        folder.mkdir(parents=True, exist_ok=True)
        seconds, rest = divmod(time.time_ns(), 10**9)  # TensorBoard reads files in the order of their names
        name = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}.{rest:09d}"
        self._file = (folder / name).open("wb", buffering=1 << 16)
        self._prefixes: dict[str, bytes] = {}
        self._flushed_at = time.monotonic()
        self._record(_double(1, time.time()) + _bytes(3, b"brain.Event:2"))
        if first_step > 0:
            session_start = _bytes(7, b"\x08\x01")  # session_log { status: START }
            self._record(_double(1, time.time()) + _varint_field(2, first_step) + session_start)

    def write(self, step: int, values: Mapping[str, Any], media: Mapping[str, Media]) -> None:
        """Append the finite numbers of `values` as scalars at `step`, and what is no number.

        Images are shown as they are, videos as animated images, series as histograms.
        """
        parts = [
            self._prefix(tag) + struct.pack("<f", _to_float32(value))
            for tag, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)
        ]
        parts += [_bytes(1, _bytes(1, tag.encode()) + _summary(item)) for tag, item in media.items()]
        now = time.time()
        self._record(_double(1, now) + _varint_field(2, step) + _bytes(5, b"".join(parts)))
        if time.monotonic() - self._flushed_at > FLUSH_INTERVAL_S:
            self.flush()
            self._flushed_at = time.monotonic()

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _prefix(self, tag: str) -> bytes:
        """Return everything of a `Summary.Value` but the four bytes of its number: only those change."""
        if tag not in self._prefixes:
            head = _bytes(1, tag.encode()) + b"\x15"  # tag, then the key of field 2: simple_value, 32 bits
            self._prefixes[tag] = b"\x0a" + _varint(len(head) + 4) + head
        return self._prefixes[tag]

    def _record(self, payload: bytes) -> None:
        length = struct.pack("<Q", len(payload))
        checks = struct.pack("<I", _masked_crc(length)), struct.pack("<I", _masked_crc(payload))
        self._file.write(length + checks[0] + payload + checks[1])


def _to_float32(value: float) -> float:
    """Bound a number by what 32 bits can hold: `struct` refuses larger ones."""
    return max(-3.4e38, min(3.4e38, float(value)))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _double(number: int, value: float) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _summary(item: Media) -> bytes:
    """Write what follows the tag in a `Summary.Value`."""
    if isinstance(item, Series):
        return _bytes(5, _histogram(np.array(item.values)))
    frames, fps = (item.pixels[np.newaxis], 1.0) if isinstance(item, Image) else (item.frames, item.fps)
    _, height, width, channels = frames.shape
    size = _varint_field(1, height) + _varint_field(2, width) + _varint_field(3, channels)
    return _bytes(4, size + _bytes(4, encode_png(frames, fps=fps)))


def _histogram(values: np.ndarray) -> bytes:
    """Write a `HistogramProto` of the finite values."""
    values = values[np.isfinite(values)]
    counts, edges = np.histogram(values, HISTOGRAM_BINS)
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    figures = (low, high, values.size, values.sum(), np.square(values).sum())
    numbers = b"".join(_double(number, float(figure)) for number, figure in enumerate(figures, start=1))
    return numbers + _bytes(6, edges[1:].astype("<f8").tobytes()) + _bytes(7, counts.astype("<f8").tobytes())


class _Crc32c:
    """CRC-32C of whole byte strings at numpy's speed.

    A CRC is linear: it is the exclusive-or of what each byte of a block contributes at its distance from the end. Row k
    of the table holds the contribution of every byte value at distance k, row k + 1 follows from row k.
    """

    BLOCK = 4096
    """Bytes taken at once: the table has a row for each."""

    def __init__(self) -> None:
        row = np.arange(256, dtype=np.uint32)
        for _ in range(8):
            row = np.where(row & 1, (row >> 1) ^ np.uint32(0x82F63B78), row >> 1).astype(np.uint32)
        self._first = row
        self._table = row[None]

    def __call__(self, data: bytes) -> int:
        values = np.frombuffer(data, dtype=np.uint8)
        register = 0xFFFFFFFF
        for start in range(0, len(values), self.BLOCK):
            block = values[start : start + self.BLOCK].copy()
            size = len(block)
            self._grow(size)
            head = np.frombuffer(struct.pack("<I", register), dtype=np.uint8)[:size]
            block[: len(head)] ^= head  # the register meets the first four bytes; what they leave of it moves down
            contributions = self._table[np.arange(size - 1, -1, -1), block]
            register = int(np.bitwise_xor.reduce(contributions)) ^ (register >> 8 * len(head))
        return register ^ 0xFFFFFFFF

    def _grow(self, size: int) -> None:
        if size <= len(self._table):
            return
        rows = list(self._table)
        while len(rows) < min(size + 256, self.BLOCK):
            rows.append((rows[-1] >> 8) ^ self._first[rows[-1] & 255])
        self._table = np.stack(rows)


_crc32c = _Crc32c()


def _masked_crc(data: bytes) -> int:
    """Return the checksum in the form the file wants: rotated by 15 bits, plus a constant."""
    crc = _crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
