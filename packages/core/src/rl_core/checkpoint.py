"""Checkpoints: directories of two files, written atomically, checked by hash, free of pickle.

    <checkpoint>/manifest.json   its own hash; format, versions and notes; of each component its plain data, and where
                                 in the other file its arrays are, with their SHA-256
    <checkpoint>/arrays.bin      one safetensors file a component, one after the other; absent without arrays

Components have names such as `config`, `counters`, `policies/default`, `learners/default`, `runners/0`, and can be read
apart. A checkpoint on disk is written to a hidden sibling, synced, and renamed, so that a kill at any moment leaves
whole checkpoints only. Elsewhere (any URL of fsspec) the manifest is uploaded last, without which it is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import safetensors.torch
import torch
from safetensors import SafetensorError

from rl_core.checkpoint_files import (
    ARRAYS,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    EncodedCheckpoint,
    StoredArray,
    has_its_hash,
)
from rl_core.errors import CheckpointError
from rl_core.state_codec import State, decode_state, encode_state
from rl_core.storage import Location, folder_at

MAX_JSON_BYTES = 256 * 2**20
"""Larger JSON files are refused before they are parsed."""

L = TypeVar("L", bound=Location)


def save_checkpoint(path: L, components: Mapping[str, State], *, notes: Mapping[str, Any] | None = None) -> L:
    """Write components to a new directory `path`, all or nothing.

    Args:
        path: Must not exist yet; a path, or a URL of fsspec.
        components: State of each component by name; `/` in a name makes folders.
        notes: JSON data that `Checkpoint.notes` gives back, such as a score.

    Raises:
        CheckpointError: the path exists or cannot be written, or a state holds something that has no stored form.
    """
    encode_checkpoint(path, components, notes=notes).write()
    return path


def encode_checkpoint(
    path: Location, components: Mapping[str, State], *, notes: Mapping[str, Any] | None = None
) -> EncodedCheckpoint:
    """Encode components; the arrays stay those of the states, so they are to be written or copied before these change.

    Args:
        path: As in `save_checkpoint`.
        components: As there.
        notes: As there.

    Raises:
        CheckpointError: a state holds something that has no stored form.
    """
    encoded: dict[str, tuple[Any, dict[str, StoredArray]]] = {}
    for name, state in components.items():
        arrays: dict[str, StoredArray] = {}
        encoded[name] = encode_state(state, name, arrays), arrays
    head = {"format": FORMAT, "version": FORMAT_VERSION, "torch": str(torch.__version__), "notes": dict(notes or {})}
    return EncodedCheckpoint(folder=folder_at(path), head=head, components=encoded)


class Checkpoint:
    """A checkpoint, open for reading."""

    def __init__(self, path: Location) -> None:
        """Read the manifest.

        Raises:
            CheckpointError: there is no checkpoint, or not one this version can read.
        """
        self._folder = folder_at(path)
        self.path = self._folder.location
        size = self._size(MANIFEST)
        if size is None and not self._exists():
            raise CheckpointError(f"There is no checkpoint directory {self.path}.")
        if size is None:
            raise CheckpointError(
                f"{self.path} is not a checkpoint of this library: it has no {MANIFEST}.{self._newest_inside()}"
            )
        if size > MAX_JSON_BYTES:
            raise CheckpointError(f"{self._where(MANIFEST)} is larger than {MAX_JSON_BYTES} bytes; it is not ours.")
        content = self._read(MANIFEST)
        manifest = _parse_json(self._where(MANIFEST), content)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise CheckpointError(f"{self._where(MANIFEST)} does not describe a checkpoint of this library.")
        if manifest.get("version") != FORMAT_VERSION:
            raise CheckpointError(
                f"{self.path} has format version {manifest.get('version')!r}, this rl-core reads {FORMAT_VERSION}. "
                "Use the version of rl-core that wrote it."
            )
        if not has_its_hash(content, manifest.get("sha256")):
            raise self._damaged(MANIFEST)
        components, notes = manifest.get("components"), manifest.get("notes")
        if not isinstance(components, dict):
            raise CheckpointError(f"{self._where(MANIFEST)} does not describe a checkpoint of this library.")
        self._components: dict[str, Any] = components
        self._array_bytes = manifest.get("bytes")
        self.notes: dict[str, Any] = notes if isinstance(notes, dict) else {}
        """What `save_checkpoint` was given beside the components."""

    def components(self) -> list[str]:
        """Names of the components it holds."""
        return sorted(self._components)

    def load(self, component: str) -> State:
        """Read one component, after checking its arrays against the manifest.

        Raises:
            CheckpointError: there is no such component, or its arrays are missing, truncated, changed or malformed.
        """
        if component not in self._components:
            raise CheckpointError(
                f"{self.path} has no component {component!r}, only {', '.join(self.components()) or 'nothing'}."
            )
        content = self._read_arrays(component)
        try:
            tensors = safetensors.torch.load(content) if content is not None else {}
        except SafetensorError as error:
            raise CheckpointError(
                f"{self._where(ARRAYS)} does not hold a safetensors file for {component}: {error}."
            ) from error
        try:
            return decode_state(self._components[component]["data"], tensors)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{self._where(MANIFEST)} is malformed at {component}: {error!r}.") from error

    def verify(self) -> None:
        """Check all arrays against the manifest, which was checked when it was read.

        Raises:
            CheckpointError: some are missing, truncated or changed.
        """
        for component in self._components:
            self._read_arrays(component)

    def _read_arrays(self, component: str) -> bytes | None:
        """Read the arrays of a component, if it has any, and compare their size and hash."""
        entry = self._components[component]
        if isinstance(entry, dict) and "arrays" not in entry:
            return None
        size = self._size(ARRAYS)
        if size is None:
            raise CheckpointError(f"The checkpoint {self.path} is incomplete: {ARRAYS} is missing.")
        if size != self._array_bytes:
            raise CheckpointError(
                f"{self._where(ARRAYS)} is damaged: {size} bytes, the manifest says {self._array_bytes}."
            )
        match entry:
            case {"arrays": {"start": int(start), "bytes": int(number), "sha256": str(sha256)}}:
                stop = start + number
            case _:
                start, stop, sha256 = -1, -1, ""
        if not 0 <= start <= stop <= size:
            raise CheckpointError(f"{self._where(MANIFEST)} has a bad entry {component!r}.")
        content = self._read(ARRAYS, start, stop)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise self._damaged(ARRAYS)
        return content

    def _damaged(self, name: str) -> CheckpointError:
        return CheckpointError(
            f"{self._where(name)} is damaged: its SHA-256 is not the manifest's. Use an earlier checkpoint."
        )

    def _where(self, name: str) -> str:
        """Name a file in a message."""
        return f"{self.path}/{name}"

    def _newest_inside(self) -> str:
        """Name the newest checkpoint inside, as in a folder of a run, of a keeper or of Ray Tune."""
        try:
            here, run = self._folder.children(), self._folder.child("checkpoints")
            inside, names = (run, run.children()) if "checkpoints" in here else (self._folder, here)
            found = [name for name in sorted(names) if inside.child(name).size(MANIFEST) is not None]
        except OSError:
            return ""
        return f" The newest in it is {inside.child(found[-1]).location}." if found else ""

    def _exists(self) -> bool:
        try:
            return self._folder.exists()
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error}.") from error

    def _size(self, name: str) -> int | None:
        try:
            return self._folder.size(name)
        except OSError as error:
            raise CheckpointError(f"{self._where(name)} cannot be read: {error}.") from error

    def _read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        try:
            return self._folder.read(name, start, stop)
        except OSError as error:
            raise CheckpointError(f"{self._where(name)} cannot be read: {error}.") from error


def newest_checkpoint(folder: L) -> L:
    """Find the last checkpoint by name in a folder that passes all its checks.

    Args:
        folder: A path, or a URL of fsspec.

    Raises:
        CheckpointError: there is none; the message says what is wrong with each that was tried.
    """
    problems, inside = [], folder_at(folder)
    try:
        names = inside.children()
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error}.") from error
    for name in sorted(names, reverse=True):
        location = inside.child(name).location
        try:
            Checkpoint(location).verify()
        except CheckpointError as error:
            problems.append(f"\n  {error}")
        else:
            return cast(L, location)
    raise CheckpointError(f"There is no usable checkpoint in {folder}.{''.join(problems)}")


def _parse_json(path: str, content: bytes) -> Any:
    """Parse JSON or say that the file is damaged."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON ({error}).") from error
