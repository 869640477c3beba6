"""Folders that checkpoints lie in: local ones, which appear in one move, and those of any file system fsspec knows."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rl_core.errors import CheckpointError

Buffer = Any
"""Bytes, or what can be seen as such: `collections.abc.Buffer` of newer versions of Python."""
Location = str | Path
"""A path, or a URL of fsspec such as `s3://bucket/run/checkpoint` or `memory://checkpoint`; `file://` is a path."""


class Folder(Protocol):
    """A folder of files, which is written once. Every method may raise `OSError`."""

    location: Location
    """How messages name it, and where it can be opened again."""

    def exists(self) -> bool:
        """Whether there is a folder."""

    def taken(self) -> bool:
        """Whether anything stands in its place."""

    def size(self, name: str) -> int | None:
        """Bytes of a file directly in the folder, None if there is none."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return what a file holds, or its bytes from `start` until `stop`."""

    def write(self, files: Mapping[str, Sequence[Buffer]]) -> None:
        """Write files, given in pieces, in their order; the last one makes the folder complete.

        A failure leaves nothing behind.
        """

    def remove(self, *, first: str = "") -> None:
        """Delete the folder: in one move, or this file before all others, without which it is not complete."""

    def child(self, name: str) -> Folder:
        """Return the folder of this name inside."""

    def children(self) -> list[str]:
        """Names of the folders inside, but for hidden ones; empty where there is no folder."""


def folder_at(location: Location) -> Folder:
    """Open a folder, which need not exist.

    Raises:
        CheckpointError: the file system of a URL is unknown, or needs a package that is not installed.
    """
    scheme, separator, rest = str(location).partition("://")
    if not separator:
        return LocalFolder(Path(location))
    return LocalFolder(Path(rest)) if scheme in ("file", "local") else RemoteFolder(str(location))


class LocalFolder:
    """A folder on disk: written beside its place, synced, and renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.location: Location = path

    def exists(self) -> bool:
        """Whether there is a folder."""
        return self.path.is_dir()

    def taken(self) -> bool:
        """Whether anything stands in its place."""
        return self.path.exists()

    def size(self, name: str) -> int | None:
        """Bytes of a file directly in the folder, None if there is none."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return what a file holds, or its bytes from `start` until `stop`."""
        with open(self.path / name, "rb") as file:
            file.seek(start)
            return file.read(-1 if stop is None else stop - start)

    def write(self, files: Mapping[str, Sequence[Buffer]]) -> None:
        """Write, sync and rename, so that a kill at any moment leaves all of it or nothing."""
        temporary = self._hidden()
        shutil.rmtree(temporary, ignore_errors=True)
        paths = [f"{temporary}/{name}" for name in files]
        try:
            temporary.mkdir(parents=True)
            for path, pieces in zip(paths, files.values(), strict=True):
                with open(path, "xb") as file:
                    file.writelines(pieces)
                    file.flush()
                    _begin_sync(file.fileno())
            for path in [*paths, str(temporary)]:
                sync(path)
            temporary.rename(self.path)
            sync(self.path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def remove(self, *, first: str = "") -> None:
        """Hide the folder and delete it."""
        hidden = self._hidden()
        shutil.rmtree(hidden, ignore_errors=True)
        self.path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def child(self, name: str) -> LocalFolder:
        """Return the folder of this name inside."""
        return LocalFolder(self.path / name)

    def children(self) -> list[str]:
        """Names of the folders inside, but for hidden ones."""
        if not self.path.is_dir():
            return []
        return [path.name for path in self.path.iterdir() if path.is_dir() and not path.name.startswith(".")]

    def _hidden(self) -> Path:
        """Where the folder lies while it is written or deleted."""
        return self.path.parent / f".{self.path.name}.{os.getpid()}.tmp"


class RemoteFolder:
    """A folder in a file system of fsspec: its files are uploaded one by one, the one that completes it last."""

    def __init__(self, url: str) -> None:
        """Open the file system.

        Raises:
            CheckpointError: it is unknown, or needs a package that is not installed.
        """
        from fsspec.core import url_to_fs

        self.location: Location = url.rstrip("/")
        try:
            self._system, self._path = url_to_fs(self.location)
        except (ImportError, ValueError) as error:
            raise CheckpointError(f"{url}: {error}. Install what fsspec needs for it, or give a path.") from error

    def exists(self) -> bool:
        """Whether there is a folder."""
        return bool(self._call(self._system.isdir, self._path))

    def taken(self) -> bool:
        """Whether anything stands in its place."""
        return bool(self._call(self._system.exists, self._path))

    def size(self, name: str) -> int | None:
        """Bytes of a file directly in the folder, None if there is none."""
        path = f"{self._path}/{name}"
        return int(self._call(self._system.size, path)) if self._call(self._system.isfile, path) else None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return what a file holds, or its bytes from `start` until `stop`."""
        content: bytes = self._call(self._system.cat_file, f"{self._path}/{name}", start=start or None, end=stop)
        return content

    def write(self, files: Mapping[str, Sequence[Buffer]]) -> None:
        """Upload; whatever was uploaded goes again if a file cannot be."""
        try:
            self._call(self._system.makedirs, self._path, exist_ok=True)
            for name, pieces in files.items():
                self._call(self._system.pipe_file, f"{self._path}/{name}", b"".join(pieces))
        except BaseException:
            with contextlib.suppress(OSError):
                self.remove()
            raise

    def remove(self, *, first: str = "") -> None:
        """Delete one file, then all others."""
        self._call(self._system.invalidate_cache)
        if first and self._call(self._system.exists, f"{self._path}/{first}"):
            self._call(self._system.rm_file, f"{self._path}/{first}")
        if self.taken():  # object stores have no empty folders
            self._call(self._system.rm, self._path, recursive=True)

    def child(self, name: str) -> RemoteFolder:
        """Return the folder of this name inside."""
        return RemoteFolder(f"{self.location}/{name}")

    def children(self) -> list[str]:
        """Names of the folders inside, but for hidden ones."""
        self._call(self._system.invalidate_cache)
        if not self.exists():
            return []
        entries = self._call(self._system.ls, self._path, detail=True)
        names = (entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory")
        return [name for name in names if not name.startswith(".")]

    def _call(self, function: Any, *args: Any, **options: Any) -> Any:
        """Call the file system; what its client raises, whatever it is, becomes an OSError."""
        try:
            return function(*args, **options)
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from error


def remove_leftovers(folder: Folder) -> None:
    """Delete what killed processes of this machine left half written or half deleted in a local folder.

    Nothing may be writing into it: what a process of the same id left, as in a container, goes too.
    """
    if not isinstance(folder, LocalFolder) or not folder.path.is_dir():
        return
    for path in folder.path.glob(".*.tmp"):
        pid = path.name.split(".")[-2]
        if pid.isdigit() and (int(pid) == os.getpid() or not is_running(int(pid))):
            shutil.rmtree(path, ignore_errors=True)


def is_running(pid: int) -> bool:
    """Whether there is a process of this id on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _begin_sync(descriptor: int) -> None:
    """Let the disk begin to write a file, where the system can: of several files it then does most together."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def sync(path: str | Path) -> None:
    """Wait until a file, or a folder's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
