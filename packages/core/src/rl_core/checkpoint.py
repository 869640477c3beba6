"""Checkpoints: directories of components that can be read apart, written atomically, checked by hash, free of pickle.

    <checkpoint>/manifest.json              format, versions, size and SHA-256 of every other file
    <checkpoint>/<component>/data.json      plain data, with references to arrays
    <checkpoint>/<component>/tensors.safetensors

Components have names such as `config`, `counters`, `policies/default`, `learners/default`, `runners/0`. A checkpoint is
written to a hidden sibling, synced, and renamed, so that a kill at any moment leaves whole checkpoints only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from rl_core.errors import CheckpointError

FORMAT = "rl-core checkpoint"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MAX_JSON_BYTES = 256 * 2**20
"""Larger JSON files are refused before they are parsed."""

State = Any
"""Nested dicts, lists and tuples of tensors, numpy arrays, and plain data."""


def save_checkpoint(path: str | Path, components: Mapping[str, State]) -> Path:
    """Write components to a new directory `path`, all or nothing.

    Args:
        path: Must not exist yet.
        components: State of each component by name; `/` in a name makes folders.

    Raises:
        CheckpointError: the path exists or cannot be written, or a state holds something that has no stored form.
    """
    path = Path(path)
    if path.exists():
        raise CheckpointError(f"{path} exists already; checkpoints are never overwritten. Give another path.")
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        files: dict[str, dict[str, Any]] = {}
        for name, state in components.items():
            for file_name, content in _encode_component(name, state).items():
                files[file_name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                _write_synced(temporary / file_name, content)
        manifest = {"format": FORMAT, "version": FORMAT_VERSION, "torch": torch.__version__, "files": files}
        _write_synced(temporary / MANIFEST, json.dumps(manifest, indent=1).encode())
        for folder in {temporary, *(parent for file in files for parent in (temporary / file).parents)}:
            if folder.is_relative_to(temporary):
                _sync_folder(folder)
        temporary.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"Cannot write the checkpoint {path}: {error}. What was saved before is untouched."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


class Checkpoint:
    """A checkpoint on disk, open for reading."""

    def __init__(self, path: str | Path) -> None:
        """Read the manifest.

        Raises:
            CheckpointError: there is no checkpoint, or not one this version can read.
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise CheckpointError(f"There is no checkpoint directory {self.path}.")
        if not (self.path / MANIFEST).is_file():
            raise CheckpointError(f"{self.path} is not a checkpoint of this library: it has no {MANIFEST}.")
        manifest = _parse_json(self.path / MANIFEST, _read_bounded(self.path / MANIFEST))
        files = manifest.get("files") if isinstance(manifest, dict) else None
        if not isinstance(files, dict) or manifest.get("format") != FORMAT:
            raise CheckpointError(f"{self.path / MANIFEST} does not describe a checkpoint of this library.")
        if manifest.get("version") != FORMAT_VERSION:
            raise CheckpointError(
                f"{self.path} has format version {manifest.get('version')!r}, this rl-core reads {FORMAT_VERSION}. "
                "Use the version of rl-core that wrote it."
            )
        self._files: dict[str, Any] = files

    def components(self) -> list[str]:
        """Names of the components it holds."""
        return sorted({str(PurePosixPath(name).parent) for name in self._files})

    def load(self, component: str) -> State:
        """Read one component, after checking its files against the manifest.

        Raises:
            CheckpointError: there is no such component, or a file is missing, truncated, changed or malformed.
        """
        data_name = f"{component}/data.json"
        if data_name not in self._files:
            raise CheckpointError(
                f"{self.path} has no component {component!r}, only {', '.join(self.components()) or 'nothing'}."
            )
        tensors_name = f"{component}/tensors.safetensors"
        data = _parse_json(self.path / data_name, self._read_checked(data_name))
        tensors: dict[str, torch.Tensor] = {}
        if tensors_name in self._files:
            try:
                tensors = safetensors.torch.load(self._read_checked(tensors_name))
            except SafetensorError as error:
                raise CheckpointError(f"{self.path / tensors_name} is not a safetensors file: {error}.") from error
        try:
            return _decode(data, tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.path / data_name} is malformed: {error!r}.") from error

    def verify(self) -> None:
        """Check every file against the manifest.

        Raises:
            CheckpointError: a file is missing, truncated or changed.
        """
        for name in self._files:
            self._read_checked(name)

    def _read_checked(self, name: str) -> bytes:
        """Read a file of the manifest and compare its size and hash."""
        expected, path = self._files[name], self.path / name
        if not isinstance(expected, dict) or not path.resolve().is_relative_to(self.path.resolve()):
            raise CheckpointError(f"{self.path / MANIFEST} has a bad entry {name!r}.")
        if not path.is_file():
            raise CheckpointError(f"The checkpoint {self.path} is incomplete: {name} is missing.")
        size = path.stat().st_size
        if size != expected.get("bytes"):
            raise CheckpointError(f"{path} is damaged: {size} bytes, the manifest says {expected.get('bytes')}.")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != expected.get("sha256"):
            raise CheckpointError(f"{path} is damaged: its SHA-256 is not the manifest's. Use an earlier checkpoint.")
        return content


def newest_checkpoint(folder: str | Path) -> Path:
    """Find the last checkpoint by name in a folder that passes all its checks.

    Raises:
        CheckpointError: there is none; the message says what is wrong with each that was tried.
    """
    problems = []
    candidates = [path for path in Path(folder).glob("*") if path.is_dir() and not path.name.startswith(".")]
    for path in sorted(candidates, reverse=True):
        try:
            Checkpoint(path).verify()
        except CheckpointError as error:
            problems.append(f"\n  {error}")
        else:
            return path
    raise CheckpointError(f"There is no usable checkpoint in {folder}.{''.join(problems)}")


def _encode_component(name: str, state: State) -> dict[str, bytes]:
    """Turn one component's state into the contents of its files."""
    tensors: dict[str, torch.Tensor] = {}
    data = _encode(state, name, tensors)
    contents = {f"{name}/data.json": json.dumps(data, indent=1).encode()}
    if tensors:
        contents[f"{name}/tensors.safetensors"] = safetensors.torch.save(tensors)
    return contents


def _encode(state: State, where: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Turn a state into JSON data and collect its arrays in `tensors`."""
    if state is None or isinstance(state, bool | int | float | str):
        return state
    if isinstance(state, np.generic):
        return state.item()
    if isinstance(state, torch.Tensor | np.ndarray):
        key = f"{len(tensors)}"
        if isinstance(state, torch.Tensor):
            tensors[key] = state.detach().cpu().contiguous().clone()
            return {"$tensor": key}
        if state.dtype.kind not in "biuf":
            raise CheckpointError(f"{where}: arrays of dtype {state.dtype} have no stored form.")
        # Torch lacks some of numpy's integer types, so bytes go in and the dtype stands beside them.
        tensors[key] = torch.from_numpy(np.frombuffer(np.ascontiguousarray(state).tobytes(), np.uint8).copy())
        return {"$array": key, "dtype": state.dtype.str, "shape": list(state.shape)}
    if isinstance(state, tuple):
        return {"$tuple": [_encode(item, f"{where}[{index}]", tensors) for index, item in enumerate(state)]}
    if isinstance(state, list):
        return [_encode(item, f"{where}[{index}]", tensors) for index, item in enumerate(state)]
    if isinstance(state, Mapping):
        if any(not isinstance(key, str) or (key.startswith("$") and key not in _CONFIG_KEYS) for key in state):
            raise CheckpointError(f"{where}: mapping keys must be strings without a leading '$', got {list(state)}.")
        return {key: _encode(item, f"{where}.{key}", tensors) for key, item in state.items()}
    raise CheckpointError(f"{where}: a {type(state).__name__} has no stored form; use arrays and plain data.")


_CONFIG_KEYS = ("$import", "$object", "$instance")
"""Keys that encoded configs use; they pass through unchanged."""


def _decode(data: Any, tensors: Mapping[str, torch.Tensor]) -> State:
    """Turn JSON data back into a state."""
    if isinstance(data, list):
        return [_decode(item, tensors) for item in data]
    if not isinstance(data, dict):
        return data
    if "$tensor" in data:
        return tensors[data["$tensor"]]
    if "$array" in data:
        dtype = np.dtype(data["dtype"])
        if dtype.kind not in "biuf" or min(data["shape"], default=0) < 0:
            raise ValueError(f"an array of dtype {dtype} and shape {data['shape']}")
        return np.frombuffer(tensors[data["$array"]].numpy().tobytes(), dtype).reshape(data["shape"]).copy()
    if "$tuple" in data:
        return tuple(_decode(item, tensors) for item in data["$tuple"])
    return {key: _decode(item, tensors) for key, item in data.items()}


def _read_bounded(path: Path) -> bytes:
    """Read a file that must not be huge."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(f"{path} is larger than {MAX_JSON_BYTES} bytes; it is not ours.")
    return path.read_bytes()


def _parse_json(path: Path, content: bytes) -> Any:
    """Parse JSON or say that the file is damaged."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON ({error}).") from error


def _write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Wait until a directory's entries are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
