"""A reader of pickles that builds plain data only: no class of the file is imported, no function of it is called.

A pickle is a program for a small stack machine. This is that machine without its dangerous half: whatever would import
a name gives a `Name`, whatever would call it or make an object gives a `Record` of what was asked for. Safety rests on
that alone. Names that no checkpoint needs (`os.system`) are refused besides, so that an attack does not go unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from pickletools import genops  # only splits the bytes into opcodes and their arguments
from typing import Any

from rl_core.errors import CheckpointError

MAX_BYTES = 2**30
"""Largest pickle that is read; RLlib's optimisers triple what a network weighs."""
_MAX_OPCODES = 2_000_000
"""Most instructions; a policy has some thousand."""
_NEWEST_PROTOCOL = 5
_HOSTILE_MODULES = frozenset(
    "os posix nt io _io subprocess pty sys shutil runpy code codeop pdb bdb timeit ctypes socket webbrowser pickle "
    "_pickle multiprocessing importlib marshal builtins __builtin__".split()
)
_HARMLESS_BUILTINS = frozenset(
    "object type tuple list dict set frozenset str int float bool complex bytes bytearray slice range property "
    "staticmethod classmethod super getattr print len min max sum abs Ellipsis NotImplemented Exception".split()
)
"""Builtins that functions saved by value name; they are not called either."""
_CONTAINERS = {"collections.OrderedDict": dict, "collections.defaultdict": dict, "collections.deque": list}
_SCALARS = (str, bytes, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle mentions, by its dotted name."""

    path: str


@dataclass(slots=True, eq=False, repr=False)
class Record:
    """An object that a pickle describes, as it was described."""

    path: str
    """Dotted name of its class, or of the function that would make it."""
    args: tuple[Any, ...]
    """What the class or function would be called with."""
    state: Any = None
    """What its attributes would be set from."""
    items: list[Any] = field(default_factory=list)
    """What would be appended to it: values, or (key, value)."""

    def __repr__(self) -> str:
        """Show the class only: the rest may contain itself."""
        return f"<{self.path[:80]}>"


def shown(value: Any) -> str:
    """Describe a value in a few characters, without looking into it: the whole may be endless."""
    if isinstance(value, str | bytes):
        return repr(value[:80])
    is_small = not isinstance(value, int) or abs(value) < 2**60
    return (
        repr(value)[:100] if isinstance(value, (*_SCALARS, Name, Record)) and is_small else f"a {type(value).__name__}"
    )


def read_pickle(path: Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """Read a pickle file as dicts, lists, tuples, sets, text, numbers, bytes, `Name`s and `Record`s.

    Raises:
        CheckpointError: the file is missing, too large, damaged, or asks for what no checkpoint needs.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. Expected a checkpoint of RLlib's PyTorch policies or modules.")
    if path.stat().st_size > max_bytes:
        raise CheckpointError(f"{path}: {path.stat().st_size} bytes, expected at most {max_bytes}. It was not read.")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    try:
        return parse_pickle(content[:max_bytes])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error} Nothing of it was run.") from error


def parse_pickle(content: bytes) -> Any:
    """Read a pickle from memory; see `read_pickle`."""
    machine = _Machine()
    try:
        for number, (opcode, argument, _) in enumerate(genops(content)):
            if number == _MAX_OPCODES:
                raise CheckpointError(f"the pickle has more than {_MAX_OPCODES} instructions.")
            machine.run(opcode.name, argument)
        return machine.stack.pop()
    except (ValueError, LookupError, OverflowError, TypeError) as error:
        raise CheckpointError(f"the pickle is damaged ({type(error).__name__}: {error}).") from error


class _Machine:
    """The stack, the marks in it, and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, opcode: str, argument: Any) -> None:
        """Do one instruction."""
        if opcode in _PUSHES:
            self.stack.append(argument)
        elif opcode in _MAKES:
            self.stack.append(_MAKES[opcode]())
        elif opcode in _READS:
            self.stack.append(self.memo[argument])
        elif opcode in _WRITES:
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode == "PROTO" and argument > _NEWEST_PROTOCOL:
            raise CheckpointError(f"the pickle has protocol {argument}, expected at most {_NEWEST_PROTOCOL}.")
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise CheckpointError(f"the pickle uses {opcode}, which no checkpoint needs: it may be an attack.")

    def cut(self) -> list[Any]:
        """Take everything above the last mark off the stack."""
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def take(self, count: int) -> list[Any]:
        """Take so many values off the stack."""
        return [self.stack.pop() for _ in range(count)][::-1]

    def pop(self) -> None:
        """Drop the top of the stack, which may be a mark."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def extend(self, values: list[Any]) -> None:
        """Append to the list, set or record on top."""
        target = self.stack[-1]
        if isinstance(target, set):
            target.update(map(_key, values))
        elif isinstance(target, list | Record):
            (target if isinstance(target, list) else target.items).extend(values)
        else:
            raise TypeError(f"cannot append to a {type(target).__name__}")

    def set_items(self, values: list[Any]) -> None:
        """Put keys and values into the dict or record on top."""
        target = self.stack[-1]
        pairs = zip(map(_key, values[::2]), values[1::2], strict=True)
        if isinstance(target, dict):
            target.update(pairs)
        elif isinstance(target, Record):
            target.items.extend(pairs)
        else:
            raise TypeError(f"cannot set items of a {type(target).__name__}")

    def make(self, maker: Any, args: Any, keywords: Any = ()) -> None:
        """Push the record of a call, or an empty container."""
        if not isinstance(maker, Name | Record) or not isinstance(args, tuple):
            raise TypeError(f"cannot call a {type(maker).__name__} with a {type(args).__name__}")
        if maker.path in _CONTAINERS:
            kind = _CONTAINERS[maker.path]
            filled = kind is list and args and isinstance(args[0], list)
            self.stack.append(list(args[0]) if filled else kind())
        else:
            self.stack.append(Record(maker.path, (*args, keywords) if keywords else args))

    def build(self, state: Any) -> None:
        """Note the state of the record on top."""
        if not isinstance(self.stack[-1], Record):
            raise TypeError(f"cannot set attributes of a {type(self.stack[-1]).__name__}")
        self.stack[-1].state = state


def _name(module: Any, name: Any) -> Name:
    """Note a name, or refuse one that only an attack contains."""
    if not (isinstance(module, str) and isinstance(name, str)):
        raise TypeError(f"a name of a {type(module).__name__} and a {type(name).__name__}")
    top = module.partition(".")[0]
    if top in _HOSTILE_MODULES and not (module == "builtins" and name in _HARMLESS_BUILTINS):
        place = f"{module}.{name}"[:100]
        raise CheckpointError(f"the pickle names {place}, which no checkpoint needs: it may be an attack.")
    return Name(f"{module}.{name}")


def _key(value: Any) -> Any:
    """Return a key of a dict or set whose hash is cheap: nothing deeply nested, no huge numbers."""
    parts = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(part, (*_SCALARS, Name, Record)) for part in parts):
        raise TypeError(f"a {type(value).__name__} as a key")
    if any(isinstance(part, int) and abs(part) >= 2**60 for part in parts):
        raise ValueError("an integer of more than 60 bits as a key")
    return value


def _inst(machine: _Machine, argument: str) -> None:
    """Push the record of an object in the oldest way of writing one."""
    values = machine.cut()
    machine.make(_name(*argument.split(" ", 1)), tuple(values))


def _obj(machine: _Machine, argument: None) -> None:
    """Push the record of an object whose class lies on the stack."""
    maker, *values = machine.cut()
    machine.make(maker, tuple(values))


def _dict(machine: _Machine, argument: None) -> None:
    """Push a dict of the keys and values above the mark."""
    values = machine.cut()
    machine.stack.append({})
    machine.set_items(values)


_PUSHES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT".split()
)
_READS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_WRITES = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_MAKES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.pop(),
    "POP_MARK": lambda m, _: m.cut().clear(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.cut())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.take(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.take(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.take(3))),
    "LIST": lambda m, _: m.stack.append(m.cut()),
    "DICT": _dict,
    "FROZENSET": lambda m, _: m.stack.append(frozenset(map(_key, m.cut()))),
    "APPEND": lambda m, _: m.extend(m.take(1)),
    "APPENDS": lambda m, _: m.extend(m.cut()),
    "ADDITEMS": lambda m, _: m.extend(m.cut()),
    "SETITEM": lambda m, _: m.set_items(m.take(2)),
    "SETITEMS": lambda m, _: m.set_items(m.cut()),
    "GLOBAL": lambda m, pair: m.stack.append(_name(*pair.split(" ", 1))),
    "STACK_GLOBAL": lambda m, _: m.stack.append(_name(*m.take(2))),
    "REDUCE": lambda m, _: m.make(*m.take(2)),
    "NEWOBJ": lambda m, _: m.make(*m.take(2)),
    "NEWOBJ_EX": lambda m, _: m.make(*m.take(3)),
    "BUILD": lambda m, _: m.build(m.take(1)[0]),
    "INST": _inst,
    "OBJ": _obj,
}
