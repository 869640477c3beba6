"""Sections of a config: `config.training(lr=3e-4)` sets, `config.training.lr` reads; type checkers know the names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from rl_core.config.check import Settings, build_settings, check_names, fields_of, nearest
from rl_core.errors import ConfigError

P = ParamSpec("P")
S = TypeVar("S", bound=Settings)
C = TypeVar("C", bound="HasSections")


class HasSections(Protocol):
    """What a section needs of the config it belongs to."""

    _values: dict[str, Settings]


class Section(Generic[P, S]):
    """Descriptor that makes one dataclass of settings a section method of a config.

    The keywords, their types and their defaults are those of the dataclass: they are written once.
    """

    def __init__(self, settings_class: Callable[P, S], **defaults: Any) -> None:
        """Make a section.

        Args:
            settings_class: A frozen dataclass derived from `Settings`.
            defaults: What this config has instead of the dataclass's own defaults.
        """
        self.settings_class = settings_class
        self.defaults = defaults
        self.name = ""

    def default(self) -> S:
        """Make the settings that a fresh config has."""
        return cast(Any, self.settings_class)(**self.defaults)  # type: ignore[no-any-return]

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the section's name from the attribute it is bound to."""
        self.name = name

    @overload
    def __get__(self, config: None, owner: type[Any]) -> Self: ...

    @overload
    def __get__(self, config: C, owner: type[C]) -> BoundSection[P, S, C]: ...

    def __get__(self, config: C | None, owner: type[Any]) -> Self | BoundSection[P, S, C]:
        """Return the section of one config; of the class, what describes the section."""
        return self if config is None else BoundSection(self, config)

    def __set__(self, config: HasSections, value: Any) -> None:
        """Refuse to be replaced."""
        raise AttributeError(f"{self.name} is a section: write config.{self.name}(...) to change settings in it.")


class BoundSection(Generic[P, S, C]):
    """A section of one config: call it to change settings, read settings as attributes."""

    __slots__ = ("_config", "_section")

    def __init__(self, section: Section[P, S], config: C) -> None:
        self._section = section
        self._config = config

    def __call__(self, *args: P.args, **settings: P.kwargs) -> C:
        """Change the given settings, check them at once, and return the config.

        Raises:
            ConfigError: an unknown setting (the nearest one is suggested), a wrong type or a value out of range.
        """
        self._set({**self._by_position(args), **settings})
        return self._config

    def _by_position(self, args: tuple[Any, ...]) -> dict[str, Any]:
        """Name the values given by position; most sections take none."""
        fields = dataclasses.fields(cast(Any, self.settings))
        names = [field.name for field in fields if not field.kw_only]
        if len(args) > len(names):
            raise TypeError(f"{self._section.name}(): got {len(args)} values without a name, expected {len(names)}.")
        return dict(zip(names, args, strict=False))

    def _set(self, settings: Mapping[str, Any]) -> None:
        """Replace the section's settings by a checked copy with some values changed."""
        name = self._section.name
        self._check_names(settings)
        merged = self.settings.merged(fields_of(self.settings), settings)
        self._config._values[name] = build_settings(self._section.settings_class, merged, where=name)

    def _check_names(self, settings: Mapping[str, Any]) -> None:
        """Refuse unknown names; if another section has the name, say which."""
        for other, value in self._config._values.items():
            elsewhere = {field.name for field in dataclasses.fields(cast(Any, value))}
            for name in settings:
                if other != self._section.name and name in elsewhere and not hasattr(self.settings, name):
                    raise ConfigError(f"{self._section.name}: there is no setting {name!r}. It belongs to {other}().")
        check_names(settings, self._section.settings_class, where=self._section.name)

    @property
    def settings(self) -> S:
        """The section's settings as one frozen record."""
        return cast(S, self._config._values[self._section.name])

    def __getattr__(self, name: str) -> Any:
        """Read one setting."""
        if name.startswith("_") or not hasattr(self.settings, name):
            known = [field.name for field in dataclasses.fields(cast(Any, self.settings))]
            raise AttributeError(f"{self._section.name}: there is no setting {name!r}.{nearest(name, known)}")
        return getattr(self.settings, name)

    def __repr__(self) -> str:
        """Show the settings."""
        return repr(self.settings)
