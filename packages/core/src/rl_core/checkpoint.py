"""Checkpoints: directories of components that can be read apart, written atomically, checked by hash, free of pickle.

    <checkpoint>/manifest.json              format, versions, notes, size and SHA-256 of every other file
    <checkpoint>/<component>/data.json      plain data, with references to arrays
    <checkpoint>/<component>/tensors.safetensors

Components have names such as `config`, `counters`, `policies/default`, `learners/default`, `runners/0`. A checkpoint on
disk is written to a hidden sibling, synced, and renamed, so that a kill at any moment leaves whole checkpoints only.
Elsewhere (any URL of fsspec) its files are uploaded one by one and the manifest last, without which it is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast

import safetensors.torch
import torch
from safetensors import SafetensorError

from rl_core.checkpoint_files import (
    DATA,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    TENSORS,
    EncodedCheckpoint,
    StoredArray,
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
        CheckpointError: the path exists, or a state holds something that has no stored form.
    """
    folder = folder_at(path)
    try:
        taken = folder.taken()
    except OSError as error:
        raise CheckpointError(f"Cannot write the checkpoint {path}: {error}.") from error
    if taken:
        raise CheckpointError(f"{path} exists already; checkpoints are never overwritten. Give another path.")
    encoded: dict[str, tuple[Any, dict[str, StoredArray]]] = {}
    for name, state in components.items():
        arrays: dict[str, StoredArray] = {}
        encoded[name] = encode_state(state, name, arrays), arrays
    head = {"format": FORMAT, "version": FORMAT_VERSION, "torch": str(torch.__version__), "notes": dict(notes or {})}
    return EncodedCheckpoint(folder=folder, head=head, components=encoded)


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
        manifest = _parse_json(self._where(MANIFEST), self._read(MANIFEST))
        files = manifest.get("files") if isinstance(manifest, dict) else None
        if not isinstance(files, dict) or manifest.get("format") != FORMAT:
            raise CheckpointError(f"{self._where(MANIFEST)} does not describe a checkpoint of this library.")
        if manifest.get("version") != FORMAT_VERSION:
            raise CheckpointError(
                f"{self.path} has format version {manifest.get('version')!r}, this rl-core reads {FORMAT_VERSION}. "
                "Use the version of rl-core that wrote it."
            )
        self._files: dict[str, Any] = files
        notes = manifest.get("notes")
        self.notes: dict[str, Any] = notes if isinstance(notes, dict) else {}
        """What `save_checkpoint` was given beside the components."""

    def components(self) -> list[str]:
        """Names of the components it holds."""
        return sorted({str(PurePosixPath(name).parent) for name in self._files})

    def load(self, component: str) -> State:
        """Read one component, after checking its files against the manifest.

        Raises:
            CheckpointError: there is no such component, or a file is missing, truncated, changed or malformed.
        """
        data_name = f"{component}/{DATA}"
        if data_name not in self._files:
            raise CheckpointError(
                f"{self.path} has no component {component!r}, only {', '.join(self.components()) or 'nothing'}."
            )
        tensors_name = f"{component}/{TENSORS}"
        data = _parse_json(self._where(data_name), self._read_checked(data_name))
        tensors: dict[str, torch.Tensor] = {}
        if tensors_name in self._files:
            try:
                tensors = safetensors.torch.load(self._read_checked(tensors_name))
            except SafetensorError as error:
                raise CheckpointError(f"{self._where(tensors_name)} is not a safetensors file: {error}.") from error
        try:
            return decode_state(data, tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self._where(data_name)} is malformed: {error!r}.") from error

    def verify(self) -> None:
        """Check every file against the manifest.

        Raises:
            CheckpointError: a file is missing, truncated or changed.
        """
        for name in self._files:
            self._read_checked(name)

    def _read_checked(self, name: str) -> bytes:
        """Read a file of the manifest and compare its size and hash."""
        expected, path = self._files[name], self._where(name)
        if not isinstance(expected, dict):
            raise CheckpointError(f"{self._where(MANIFEST)} has a bad entry {name!r}.")
        size = self._size(name)
        if size is None:
            raise CheckpointError(f"The checkpoint {self.path} is incomplete: {name} is missing.")
        if size != expected.get("bytes"):
            raise CheckpointError(f"{path} is damaged: {size} bytes, the manifest says {expected.get('bytes')}.")
        content = self._read(name)
        if hashlib.sha256(content).hexdigest() != expected.get("sha256"):
            raise CheckpointError(f"{path} is damaged: its SHA-256 is not the manifest's. Use an earlier checkpoint.")
        return content

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

    def _read(self, name: str) -> bytes:
        try:
            return self._folder.read(name)
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
