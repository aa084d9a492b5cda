"""The file that ``serve`` may read its settings from: TOML, with one key for each flag."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..config import ServerSettings, Settings, Table
from ..errors import SettingError

OF_THE_BASE = ("base", "quantization", "dtype", "device")
ADAPTERS = "adapters"


@dataclass(frozen=True)
class SettingsFile:
    """What such a file says.

    Args:
        base: ``base``, ``quantization``, ``dtype`` and ``device``, as far as they are there.
        adapters: references by name.
        hub: settings of the hub.
        server: settings of the server.
    """

    base: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)
    hub: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> SettingsFile:
        """Read one.

        Raises:
            SettingError: it cannot be read, or has a key that is none, or a value of another kind.
        """
        try:
            said = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SettingError(
                f"settings file {path} does not exist.", hint="Name one, or leave --config out."
            ) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingError(f"settings file {path} cannot be read: {error}.", hint="Write it as TOML.") from error
        _hold_known(path, said, [*OF_THE_BASE, ADAPTERS, *_names(Settings), *_names(ServerSettings)])
        adapters = said.get(ADAPTERS, {})
        if not isinstance(adapters, dict):
            raise SettingError(f"{path}: {ADAPTERS} is no table.", hint='Write [adapters], then name = "reference".')
        return cls(
            {name: _text(path, name, said[name]) for name in OF_THE_BASE if name in said},
            {name: _text(path, f"{ADAPTERS}.{name}", ref) for name, ref in adapters.items()},
            _values(path, said, Settings),
            _values(path, said, ServerSettings),
        )


def _names(table: type[Table]) -> list[str]:
    return [entry.name for entry in fields(table)]


def _hold_known(path: str | Path, said: Iterable[str], known: list[str]) -> None:
    for name in said:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]}?" if near else "See docs/settings.md for those there are."
            raise SettingError(f"{path}: there is no setting {name}.", hint=hint)


def _values(path: str | Path, said: Mapping[str, Any], table: type[Table]) -> dict[str, Any]:
    found = {}
    for entry in fields(table):
        if entry.name not in said:
            continue
        value, kind = said[entry.name], type(entry.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}
            raise SettingError(f"{path}: {entry.name} is {value!r}.", hint=f"Write {words.get(kind, kind.__name__)}.")
        found[entry.name] = value
    return found


def _text(path: str | Path, name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise SettingError(f"{path}: {name} is {value!r}.", hint="Write a text in quotes.")
    return value
