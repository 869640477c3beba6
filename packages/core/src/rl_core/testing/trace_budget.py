"""How much code one must read to follow a call: the files, functions and jumps between files that it enters."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import rl_core

PACKAGE_FOLDER = str(Path(rl_core.__file__).parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a call entered of some package; comprehensions and lambdas count to the function they stand in."""

    files: frozenset[str]
    """Files entered, relative to the package."""
    functions: frozenset[tuple[str, str]]
    """Functions entered, as (file, qualified name)."""
    jumps: frozenset[tuple[str, str, str]]
    """Calls from one file into another, as (caller's file, callee's file, callee)."""
    depth: int
    """Most frames of the package on the stack at once."""

    def __str__(self) -> str:
        """The four figures in one line."""
        return (
            f"{len(self.files)} files, {len(self.functions)} functions, {len(self.jumps)} jumps between files, "
            f"depth {self.depth}"
        )

    def report(self) -> str:
        """All files with their functions, and all jumps, one a line."""
        lines = [str(self)]
        for file in sorted(self.files):
            names = sorted(name for place, name in self.functions if place == file)
            lines.append(f"  {file}: {', '.join(names)}")
        lines += [f"  {caller} -> {callee}: {name}" for caller, callee, name in sorted(self.jumps)]
        return "\n".join(lines)


def trace_call(call: Callable[[], Any], *, folder: str = PACKAGE_FOLDER) -> Trace:
    """Run `call` once under a profiler and count what it enters of the Python files below `folder`.

    Only frames of those files are counted: code of torch, numpy or an env between two of them is passed over. Measure
    a call that ran before, so that what is done once is not counted. The call's own function is not part of it where
    it stands outside the folder.
    """
    if sys.getprofile() is not None:
        raise RuntimeError("trace_call needs the profiler, and another one is active: switch off the coverage tool.")
    recorder = _Recorder(folder=folder, thread=threading.get_ident())
    sys.setprofile(recorder)
    try:
        call()
    finally:
        sys.setprofile(None)
    return Trace(
        files=frozenset(file for file, _ in recorder.functions),
        functions=frozenset(recorder.functions),
        jumps=frozenset(recorder.jumps),
        depth=recorder.depth,
    )


@dataclass(slots=True, kw_only=True)
class _Recorder:
    """The profile function: keeps the stack of counted frames."""

    folder: str
    thread: int
    depth: int = 0
    functions: set[tuple[str, str]] = field(default_factory=set)
    jumps: set[tuple[str, str, str]] = field(default_factory=set)
    stack: list[tuple[CodeType, str]] = field(default_factory=list)
    places: dict[CodeType, tuple[str, str] | None] = field(default_factory=dict)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Handle one event of `sys.setprofile`."""
        if event not in ("call", "return") or frame.f_code.co_filename[: len(self.folder)] != self.folder:
            return
        place = self._place(frame.f_code)
        if place is None:
            return
        if event == "return":
            if self.stack and self.stack[-1][0] is frame.f_code:
                self.stack.pop()
            return
        file, name = place
        self.functions.add(place)
        if self.stack and self.stack[-1][1] != file:
            self.jumps.add((self.stack[-1][1], file, name))
        self.stack.append((frame.f_code, file))
        self.depth = max(self.depth, len(self.stack))

    def _place(self, code: CodeType) -> tuple[str, str] | None:
        """File and function of a code object; None for what stands inside a function (lambda, comprehension)."""
        if code not in self.places:
            name = code.co_qualname
            inside = any(part.startswith("<") and part != "<locals>" for part in name.split("."))
            file = code.co_filename[len(self.folder) :].lstrip("/\\")
            self.places[code] = None if inside else (file, name)
        return self.places[code]
