"""Room for the columns: how much there is, how much is asked for, in memory or in files that are mapped into it."""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from rl_core.errors import ConfigError

GIB = 2**30


def available_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes this process may still allocate: what the machine has free, or less where its control group is limited.

    Args:
        proc: Where the kernel tells about memory and about the process's control group.
        cgroup: Where control groups are mounted.
    """
    groups = [_group_room(folder, "memory.max", "memory.current") for folder in _group_folders(proc, cgroup)]
    groups.append(_group_room(cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"))
    return max(0, min(_machine_memory(proc), *groups))


def _machine_memory(proc: Path) -> int:
    """Bytes the machine has free, counting caches that the kernel gives back; no limit where nothing tells."""
    info = _read_numbers(proc / "meminfo")
    if "MemAvailable" in info:
        return info["MemAvailable"] * 1024
    known = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" in known:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if "SC_PHYS_PAGES" in known:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return sys.maxsize


def _group_folders(proc: Path, cgroup: Path) -> list[Path]:
    """The process's control group (version 2) and those around it, as far as they can be seen from here."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    names = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    return [folder for name in names for folder in (cgroup / name, *(cgroup / name).parents)]


def _group_room(folder: Path, limit_name: str, usage_name: str) -> int:
    """Bytes left below the limit of one control group; file caches do not count, they are given back on demand."""
    try:
        limit = int((folder / limit_name).read_text())
        usage = int((folder / usage_name).read_text())
    except (OSError, ValueError):  # not there, or `max`
        return sys.maxsize
    return limit - usage + _read_numbers(folder / "memory.stat").get("inactive_file", 0)


def _read_numbers(path: Path) -> dict[str, int]:
    """Read a kernel file with a name and a number on each line; empty if there is none."""
    try:
        lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) >= 2 and line[1].isdigit()}


def require_room(num_bytes: int, *, count: int, what: str, folder: Path | None) -> None:
    """Refuse to allocate what does not fit.

    Args:
        num_bytes: Bytes asked for.
        count: How many things they hold, and `what` things, for the message.
        what: Such as `transitions`.
        folder: Where the files go; None asks for memory.

    Raises:
        ConfigError: there is less memory, or less room on the disk.
    """
    if folder is None:
        free, where = available_memory(), "of memory are available to this process"
        advice = "set a smaller replay capacity, or give a folder on a fast disk to map the buffer into"
    else:
        free, where = shutil.disk_usage(folder).free, f"are free on the disk of {folder}"
        advice = "set a smaller replay capacity, or give a folder on a larger disk"
    if num_bytes > free:
        each = num_bytes / count
        raise ConfigError(
            f"replay: {count:,} {what} of {each:,.1f} bytes each take {num_bytes:,} bytes ({num_bytes / GIB:.2f} GiB), "
            f"but only {free:,} bytes ({free / GIB:.2f} GiB) {where}. What to do: {advice}; about "
            f"{int(free / each):,} {what} would fit."
        )


def allocate(name: str, shape: tuple[int, ...], dtype: np.dtype, folder: Path | None) -> np.ndarray:
    """Make a column of zeros in memory, or in the file `<folder>/<name>.bin`.

    The pages are taken from the system as they are written. A file of that name is replaced, never written into: who
    else has it mapped keeps theirs.
    """
    if folder is None or math.prod(shape) == 0:
        return np.zeros(shape, dtype)
    path = folder / f"{name}.bin"
    path.unlink(missing_ok=True)
    return np.asarray(np.memmap(path, dtype, mode="w+", shape=shape))
