"""The files of a checkpoint, made of encoded components: without numpy and torch, so that a small process can do it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from rl_core.errors import CheckpointError
from rl_core.storage import Folder

FORMAT = "rl-core checkpoint"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
DATA, TENSORS = "data.json", "tensors.safetensors"
"""Files of a component; the second one only if it has arrays."""


class StoredArray(NamedTuple):
    """An array as a safetensors file has it."""

    dtype: str
    """Name in that format, such as `F32`."""
    shape: tuple[int, ...]
    content: Any
    """Its bytes: any contiguous buffer."""

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
            CheckpointError: it cannot be written.
        """
        contents: dict[str, bytes] = {}
        for name, (data, arrays) in self.components.items():
            contents[f"{name}/{DATA}"] = json.dumps(data).encode()
            if arrays:
                contents[f"{name}/{TENSORS}"] = safetensors_file(arrays)
        files = {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        }
        contents[MANIFEST] = json.dumps({**self.head, "files": files}, indent=1).encode()
        try:
            self.folder.write(contents)
        except OSError as error:
            raise CheckpointError(
                f"Cannot write the checkpoint {self.folder.location}: {error}. What was saved before is untouched."
            ) from error


def safetensors_file(arrays: Mapping[str, StoredArray]) -> bytes:
    """Write arrays in the safetensors format: the length of a JSON header, the header, and the arrays without gaps.

    The library of that name needs torch or numpy for it, and 1 ms for a small policy.

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
    return b"".join((len(text).to_bytes(8, "little"), text, *parts))
