"""A hint to the C library's memory allocator that makes tensors cheaper to come and go."""

from __future__ import annotations

import ctypes
import functools
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 256 * 2**20
LARGEST_KEPT = 32 * 2**20  # the most that glibc accepts


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep up to 256 MiB of freed memory instead of giving it back to the system at once.

    By default glibc returns every large block, and the next tensor of that size pays for its pages again: about 100 us
    for 512 KiB here, more than what is computed with them. Does nothing with another C library, or where the user has
    set a `MALLOC_` variable.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
