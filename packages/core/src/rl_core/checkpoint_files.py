"""The files of a checkpoint, made of encoded components: without numpy and torch, so that a small process can do it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from rl_core.errors import CheckpointError
from rl_core.storage import Buffer, Folder

FORMAT = "rl-core checkpoint"
FORMAT_VERSION = 2
MANIFEST, ARRAYS = "manifest.json", "arrays.bin"
"""Files of a checkpoint; the second one only if a component has arrays."""


class Json(dict[str, Any]):
    """A part of a state that is JSON data as it stands, such as a config's: it is not looked through."""


class StoredArray(NamedTuple):
    """An array as a safetensors file has it."""

    dtype: str
    """Name in that format, such as `F32`."""
    shape: tuple[int, ...]
    content: Buffer
    """Its bytes, whose number `len` gives."""

    @property
    def width(self) -> int:
        """Bytes of an element; 0 where there is none."""
        return len(self.content) // max(1, math.prod(self.shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedCheckpoint:
    """A checkpoint that is not written yet. Its arrays are those of the states it was encoded from, not copies."""

    folder: Folder
    """Where it will be written."""
    head: Mapping[str, Any]
    """What the manifest says besides the files: plain data."""
    components: Mapping[str, tuple[Any, Mapping[str, StoredArray]]]
    """JSON data and arrays of each, by name."""

    def copied(self) -> EncodedCheckpoint:
        """Return one with arrays of its own, which can be written whatever becomes of the states."""
        components = {
            name: (data, {key: array._replace(content=bytes(array.content)) for key, array in arrays.items()})
            for name, (data, arrays) in self.components.items()
        }
        return replace(self, components=components)

    def write(self) -> None:
        """Write all of it, or nothing.

        Raises:
            CheckpointError: its path exists, or it cannot be written.
        """
        files = self._files()
        try:
            if self.folder.taken():
                raise CheckpointError(
                    f"{self.folder.location} exists already; checkpoints are never overwritten. Give another path."
                )
            self.folder.write(files)
        except OSError as error:
            raise CheckpointError(
                f"Cannot write the checkpoint {self.folder.location}: {error}. What was saved before is untouched."
            ) from error

    def is_written(self) -> bool:
        """Whether its folder holds it, and no other checkpoint."""
        return self.folder.size(MANIFEST) is not None and [self.folder.read(MANIFEST)] == self._files()[MANIFEST]

    def _files(self) -> dict[str, list[Buffer]]:
        """Make the files, in pieces, the one that completes it last."""
        arrays: list[Buffer] = []
        entries: dict[str, Any] = {}
        position = 0
        for name, (data, stored) in self.components.items():
            entries[name] = {"data": data}
            if stored:
                pieces = safetensors_file(stored)
                size = sum(map(len, pieces))
                entries[name]["arrays"] = {"start": position, "bytes": size, "sha256": _sha256(pieces)}
                arrays += pieces
                position += size
        manifest = manifest_file({**self.head, "bytes": position}, entries)
        return {ARRAYS: arrays, MANIFEST: [manifest]} if arrays else {MANIFEST: [manifest]}


def manifest_file(head: Mapping[str, Any], components: Mapping[str, Any]) -> bytes:
    """Write a manifest: a JSON object whose first line has the hash of all others, then a component a line."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in components.items())
    rest = f'{json.dumps(head)[1:-1]},\n"components": {{\n{lines}\n}}}}\n'.encode()
    return f'{{"sha256": "{_sha256([rest])}",\n'.encode() + rest


def has_its_hash(manifest: bytes, sha256: object) -> bool:
    """Whether a manifest has the hash that its first line says."""
    return _sha256([manifest.partition(b"\n")[2]]) == sha256


def _sha256(pieces: Iterable[Buffer]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def safetensors_file(arrays: Mapping[str, StoredArray]) -> list[Buffer]:
    """Write arrays in the safetensors format: the length of a JSON header, the header, and the arrays without gaps.

    The library of that name needs torch or numpy for it, and 1 ms for a small policy.

    Returns:
        The pieces that follow each other in the file.

    Source: https://huggingface.co/docs/safetensors, "Format".
    """
    header: dict[str, Any] = {}
    parts, start = [], 0
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].width):  # so that each is aligned
        stop = start + len(array.content)
        header[name] = {"dtype": array.dtype, "shape": array.shape, "data_offsets": (start, stop)}
        parts.append(array.content)
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *parts]
