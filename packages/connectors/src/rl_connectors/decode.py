"""Observations that arrive as bytes, decoded and checked before anything else sees them.

Such an env's observation space is `Box(0, 255, (N,), np.uint8)`: the first 4 bytes are the length of the message,
little-endian, then comes the message, then zeros. `pack_bytes` makes such an array. The message is as long as it
likes, up to N - 4 bytes. It comes from elsewhere, so everything about it is checked against the space it should have;
what does not fit raises a `BadObservationError` that names the slots, and never reaches the module.
"""

from __future__ import annotations

import copy
import difflib
import struct
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import numpy as np
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Tuple

from rl_connectors._fit import BatchFitter
from rl_core import ConnectorState, ObsConnector
from rl_core.env.spaces import Space, check_supported, describe, space_from_json, space_to_json
from rl_core.errors import BadObservationError, ConfigError, RLError, UnsupportedSpaceError
from rl_core.records import Step
from rl_core.tree import Tree

SpaceSource = Space | Mapping[str, Any] | Callable[[], Space]
"""A space, its description by `rl_core.env.spaces.space_to_json`, or a function that returns one."""

_HEADER = 4
"""Bytes of the length."""
_LONGEST_TEXT = 400
"""Characters of a problem that are told: parts of it may come from the message."""


def pack_bytes(message: bytes, size: int) -> np.ndarray:
    """Make an observation of a message, for authors of envs.

    Args:
        message: At most `size - 4` bytes.
        size: N, length of the observation in bytes.

    Returns:
        `[N]`, uint8: the length of the message in 4 bytes, little-endian, the message, zeros.

    Raises:
        ValueError: the message is too long.
    """
    if len(message) > size - _HEADER:
        raise ValueError(
            f"pack_bytes: got a message of {len(message)} bytes, expected at most {size - _HEADER}: {size} less "
            f"{_HEADER} for its length. Give the observation space more bytes."
        )
    return np.frombuffer((struct.pack("<I", len(message)) + message).ljust(size, b"\0"), np.uint8).copy()


@dataclass(frozen=True)
class DecodedObs(ObsConnector):
    """Base of pieces that decode bytes: derive a frozen dataclass and write `decode`."""

    space: SpaceSource = field(kw_only=True)
    """Of the decoded observation: a gymnasium space, or a function that returns one. A space is kept as JSON data, so
    that it can be stored."""
    fitter: BatchFitter | None = field(default=None, init=False, repr=False, compare=False)
    """What makes a batch of decoded messages, in a bound copy."""

    def __post_init__(self) -> None:
        """Bring the space into a form that can be stored.

        Raises:
            ConfigError: it is none.
        """
        source: object = self.space
        if isinstance(source, Mapping) and not isinstance(source, spaces.Space):  # Dict spaces are mappings, too
            try:
                source = space_from_json(_with(list, source))
            except ValueError as error:
                raise ConfigError(f"{type(self).__name__}: {error}") from error
        if isinstance(source, spaces.Space):
            object.__setattr__(self, "space", _with(tuple, space_to_json(source)))
        elif not callable(source):
            raise ConfigError(
                f"{type(self).__name__}: got space={source!r}, expected a gymnasium space, or a function that returns "
                "one."
            )

    @abstractmethod
    def decode(self, message: bytes) -> Any:
        """Decode one message: nested mappings and lists as the space is, leaves of numbers or bytes.

        Bytes in a Box leaf are its numbers in the type of the space, little-endian, row by row. Any exception means
        that the message is bad.
        """

    def bind(self, observation_space: Space, action_space: Space) -> Self:
        """Return a copy that knows the space of what it decodes.

        Raises:
            UnsupportedSpaceError: the function gave no supported space.
        """
        space = self.space() if callable(self.space) else space_from_json(_with(list, self.space))
        check_supported(space, f"{type(self).__name__}: the space")
        bound = copy.copy(self)
        object.__setattr__(bound, "fitter", BatchFitter(space))
        return bound

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the space of the decoded observation.

        Raises:
            UnsupportedSpaceError: the observations are no bytes.
        """
        if (
            not isinstance(observation_space, Box)
            or observation_space.dtype != np.uint8
            or len(observation_space.shape) != 1
            or observation_space.shape[0] <= _HEADER
        ):
            raise UnsupportedSpaceError(
                f"{type(self).__name__} takes bytes, Box(0, 255, (N,), uint8) with N above {_HEADER}, got "
                f"{describe(observation_space)}. Put it first, and let the env use rl_connectors.pack_bytes."
            )
        assert self.fitter is not None, "bound to a space by its chain"
        return self.fitter.space

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Decode the observations of all slots.

        Raises:
            BadObservationError: some messages cannot be decoded or do not fit the space.
        """
        assert self.fitter is not None, "bound to a space by its chain"
        problems: dict[int, str] = {}
        slots, rows = [], []
        for slot, (length, row) in enumerate(zip(_lengths(step.obs), step.obs, strict=True)):
            try:
                rows.append(self.fitter.read(self._decode(row, length)))
                slots.append(slot)
            except ValueError as error:
                problems[slot] = str(error)
        obs: Tree = None
        if rows:
            obs, wrong = self.fitter.batch(rows)
            problems |= {slots[row]: problem for row, problem in wrong.items()}
        if problems:
            bad = sorted(problems)
            raise BadObservationError(bad, f"{type(self).__name__}: {problems[bad[0]][:_LONGEST_TEXT]}")
        return state, step.with_obs(obs)

    def _decode(self, row: np.ndarray, length: int) -> Any:
        """Decode the observation `[N]` of a slot.

        Raises:
            ValueError: it does not hold the whole message, or the message is bad.
        """
        room = len(row) - _HEADER
        if length > room:
            raise ValueError(
                f"its message claims to have {length} bytes, and {len(row)} have room for {room}. It was cut off, or "
                "does not begin with its length."
            )
        try:
            return self.decode(row[_HEADER : _HEADER + length].tobytes())
        except Exception as error:
            raise ValueError(
                f"its message of {length} bytes cannot be decoded: {type(error).__name__}: {error}"
            ) from error


@dataclass(frozen=True)
class DecodeBytes(DecodedObs):
    """Decodes each message with a function.

    Example:
        >>> def from_json(message):
        ...     return json.loads(message)
        >>> DecodeBytes(from_json, space=Dict(position=Box(-1, 1, (2,)), fuel=Discrete(10)))
    """

    decode_fn: Callable[[bytes], Any]
    """From a message to nested mappings and lists as the space is, with numbers, lists of numbers, numpy arrays or
    bytes in the leaves. Whatever it raises means that the message is bad. To be stored it must be defined at the top
    level of a module."""

    def __post_init__(self) -> None:
        """Check the function and the space."""
        if not callable(self.decode_fn):
            raise ConfigError(f"DecodeBytes: got decode_fn={self.decode_fn!r}, expected a function of bytes.")
        super().__post_init__()

    def decode(self, message: bytes) -> Any:
        """Call the function."""
        return self.decode_fn(message)


@dataclass(frozen=True)
class DecodeMsgpack(DecodedObs):
    """Decodes MessagePack: maps for Dict, arrays for Tuple, numbers, arrays of numbers or binary data in the leaves."""

    def decode(self, message: bytes) -> Any:
        """Read exactly one value."""
        return msgspec.msgpack.decode(message)


@dataclass(frozen=True)
class DecodeProtobuf(DecodedObs):
    """Decodes Protocol Buffers: fields for the keys of a Dict, repeated fields for a Tuple, scalars in the leaves.

    A leaf is a number, a repeated number or bytes. A field that is not in a message has its default there, as always
    in Protocol Buffers; an empty repeated one does not fit its shape. Fields that the space does not name are skipped.

    Example:
        >>> DecodeProtobuf(robot_pb2.Observation, space=Dict(position=Box(-1, 1, (2,)), fuel=Discrete(10)))
    """

    message: type[Any]
    """The generated class."""
    field_name: str | None = None
    """The field that holds the observation; None is the whole message, for a Dict."""

    def __post_init__(self) -> None:
        """Check the class and the space.

        Raises:
            RLError: protobuf is not installed.
        """
        try:
            from google.protobuf.message import Message
        except ImportError as error:
            raise RLError(
                "DecodeProtobuf needs the package protobuf. Install it with: pip install 'rl-connectors[protobuf]'"
            ) from error
        given: object = self.message
        if not (isinstance(given, type) and issubclass(given, Message)):
            raise ConfigError(
                f"DecodeProtobuf: got message={given!r}, expected a class that protoc made, such as "
                "robot_pb2.Observation."
            )
        super().__post_init__()

    def bind(self, observation_space: Space, action_space: Space) -> Self:
        """Return a copy that knows the space of what it decodes.

        Raises:
            UnsupportedSpaceError: the message has no such fields.
        """
        bound = super().bind(observation_space, action_space)
        assert bound.fitter is not None
        space = bound.fitter.space
        if self.field_name is not None:
            _check_fields(Dict({self.field_name: space}), self.message.DESCRIPTOR)
        else:
            _check_fields(space, self.message.DESCRIPTOR)
        return bound

    def decode(self, message: bytes) -> Any:
        """Read one message and take the fields of the space out of it."""
        assert self.fitter is not None, "bound to a space by its chain"
        parsed = self.message.FromString(message)
        return _plain(self.fitter.space, parsed if self.field_name is None else getattr(parsed, self.field_name))


def _check_fields(space: Space, descriptor: Any) -> None:
    """Compare a space with the description of a message, or of None for a number.

    Raises:
        UnsupportedSpaceError: a Dict asks for a field that the message has not, or for more or less than a number.
    """
    if isinstance(space, Tuple):
        for part in space.spaces:
            _check_fields(part, descriptor)
        return
    if isinstance(space, Dict) != (descriptor is not None):
        what = "numbers" if descriptor is None else f"the message {descriptor.full_name}"
        raise UnsupportedSpaceError(
            f"DecodeProtobuf: the space has {describe(space)} where there is {what}. Messages are Dict, numbers and "
            "bytes are leaves."
        )
    if isinstance(space, Dict):
        for key, part in space.spaces.items():
            known = descriptor.fields_by_name
            if key not in known:
                nearest = difflib.get_close_matches(str(key), list(known), 1)
                hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
                raise UnsupportedSpaceError(
                    f"DecodeProtobuf: the message {descriptor.full_name} has no field {key!r}, only {list(known)}."
                    f"{hint}"
                )
            _check_fields(part, known[key].message_type)


def _plain(space: Space, value: Any) -> Any:
    """Turn messages and repeated fields into dicts and lists."""
    if isinstance(space, Dict):
        return {key: _plain(part, getattr(value, key)) for key, part in space.spaces.items()}
    if isinstance(space, Tuple):
        parts = list(value)
        if len(parts) == len(space.spaces):
            return [_plain(part, one) for part, one in zip(space.spaces, parts, strict=True)]
        return parts  # refused where it is compared with the space
    return value if isinstance(value, int | float | bytes | str) else list(value)


def _lengths(obs: np.ndarray) -> list[int]:
    """Read the lengths of the messages in `[B, N]`."""
    lengths: list[int] = np.ascontiguousarray(obs[:, :_HEADER]).view("<u4")[:, 0].tolist()
    return lengths


def _with(sequence: type[list[Any]] | type[tuple[Any, ...]], data: Any) -> Any:
    """Make all lists and tuples of JSON data the one or the other; config files give tuples."""
    if isinstance(data, Mapping):
        return {key: _with(sequence, value) for key, value in data.items()}
    return sequence([_with(sequence, value) for value in data]) if isinstance(data, list | tuple) else data
