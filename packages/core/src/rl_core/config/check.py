"""Checks of settings: types and ranges from the annotations of a dataclass, and messages that name the nearest word."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from rl_core.config.elsewhere import NAMES_ELSEWHERE
from rl_core.errors import ConfigError

S = TypeVar("S")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Bounds of a number, put into an annotation: `Annotated[float, Range(gt=0, le=1)]`."""

    gt: float = -math.inf
    """The number must be greater than this."""
    ge: float = -math.inf
    """The number must be at least this."""
    lt: float = math.inf
    """The number must be less than this."""
    le: float = math.inf
    """The number must be at most this."""

    def contains(self, value: float) -> bool:
        """Whether a finite number lies inside; NaN and infinities never do."""
        return math.isfinite(value) and self.gt < value < self.lt and self.ge <= value <= self.le

    def __str__(self) -> str:
        """Say the bounds as an inequality, such as `> 0 and <= 1`."""
        pairs = ((">", self.gt), (">=", self.ge), ("<", self.lt), ("<=", self.le))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in pairs if math.isfinite(bound))


class Settings:
    """Base of every frozen dataclass of settings: checks and normalises its fields when it is made.

    Numbers given as int where a float is expected become float, lists become tuples where a tuple is expected, and
    mappings become nested settings. Fields annotated with anything but numbers, strings, tuples, mappings, literals,
    nested settings and unions of those are taken as they are.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        """Check each field against its annotation.

        Raises:
            ConfigError: a field has a wrong type or is out of range.
        """
        for name, hint in type_hints(cast(Any, type(self))).items():
            object.__setattr__(self, name, _conform(getattr(self, name), hint, name))
        self.check()

    def check(self) -> None:
        """Refuse combinations of fields that make no sense; nothing to refuse by default."""

    @classmethod
    def merged(cls, current: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields after a change: a mapping given for nested settings changes only what it names."""
        merged = {**current, **changes}
        for name, value in changes.items():
            now = current.get(name)
            if isinstance(now, Settings) and isinstance(value, Mapping):
                merged[name] = {**fields_of(now), **value}
        return merged


def fields_of(settings: Settings) -> dict[str, Any]:
    """Return the fields of settings by name."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(cast(Any, settings))}


@functools.cache
def type_hints(settings_class: type) -> dict[str, Any]:
    """Annotations of a dataclass's fields, with their ranges, by name."""
    hints = get_type_hints(settings_class, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings_class)}


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names are meant: ` Did you mean 'lr'?`, or list them all when none is near."""
    known = sorted(known)
    matches = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if matches:
        return f" Did you mean {' or '.join(repr(match) for match in matches)}?"
    return f" Known: {', '.join(known)}."


def build_settings(settings_class: Callable[..., S], values: Mapping[str, Any], *, where: str) -> S:
    """Make settings from names and values.

    Raises:
        ConfigError: an unknown name (the nearest one is suggested), a wrong type or a value out of range.
    """
    check_names(values, settings_class, where=where)
    try:
        return settings_class(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None


def check_names(values: Iterable[str], settings_class: Any, *, where: str) -> None:
    """Raise a `ConfigError` that suggests the nearest name if one of `values` is not a field."""
    known = [field.name for field in dataclasses.fields(settings_class)]
    for name in values:
        if name not in known:
            here = NAMES_ELSEWHERE.get(name)
            hint = nearest(name, known) if here is None else f" Here that is {here}."
            raise ConfigError(f"{where}: there is no setting {name!r}.{hint}")


def _conform(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the annotation wants it, or raise a `ConfigError` that says what was expected."""
    if get_origin(hint) is Annotated:
        base, *extras = get_args(hint)
        value = _conform(value, base, where)
        for extra in extras:
            if isinstance(extra, Range) and isinstance(value, int | float) and not extra.contains(value):
                raise ConfigError(f"{where}: got {value!r}, expected a number {extra}.")
        return value
    if get_origin(hint) in (Union, types.UnionType):
        return _conform_union(value, hint, where)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ConfigError(f"{where}: got {value!r}, expected one of {', '.join(map(repr, get_args(hint)))}.")
        return value
    return _conform_plain(value, hint, where)


def _conform_union(value: Any, hint: Any, where: str) -> Any:
    """Take the first member of a union that fits."""
    problems: list[str] = []
    for member in get_args(hint):
        try:
            return _conform(value, member, where)
        except ConfigError as error:
            problems.append(str(error).removeprefix(f"{where}: got {value!r}, expected ").rstrip("."))
    raise ConfigError(f"{where}: got {value!r}, expected {' or '.join(problems)}.")


def _conform_plain(value: Any, hint: Any, where: str) -> Any:
    """Check numbers, strings, None, tuples, mappings and nested settings; let every other annotation pass."""
    origin = get_origin(hint) or hint
    if origin is tuple and isinstance(value, list | tuple):
        return _conform_tuple(value, get_args(hint), where)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is dict and type(value) is dict:
        return _own(value)
    if isinstance(origin, type) and issubclass(origin, Settings) and isinstance(value, Mapping):
        return build_settings(origin, value, where=where)
    if origin is types.NoneType:
        origin = type(None)
    checked = origin in (int, float, str, bool, tuple, dict, type(None)) or (
        isinstance(origin, type) and issubclass(origin, Settings)
    )
    if checked and (not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool)):
        name = {"NoneType": "None", "dict": "a mapping", "int": "an int", "float": "a number"}.get(
            origin.__name__, f"a {origin.__name__}"
        )
        raise ConfigError(f"{where}: got {value!r}, expected {name}.")
    return value


def _own(value: Any) -> Any:
    """Copy nested dicts and lists, so that what the caller does to theirs later does not change a setting."""
    if type(value) is dict:
        return {key: _own(item) for key, item in value.items()}
    return [_own(item) for item in value] if type(value) is list else value


def _conform_tuple(value: list[Any] | tuple[Any, ...], members: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    """Check the members of a tuple: `tuple[X, ...]` of any length, or one annotation per place."""
    if not members:
        return tuple(value)
    if len(members) == 2 and members[1] is Ellipsis:
        return tuple(_conform(item, members[0], f"{where}[{index}]") for index, item in enumerate(value))
    if len(members) != len(value):
        raise ConfigError(f"{where}: got {value!r}, expected {len(members)} values.")
    pairs = zip(value, members, strict=True)
    return tuple(_conform(item, member, f"{where}[{index}]") for index, (item, member) in enumerate(pairs))
