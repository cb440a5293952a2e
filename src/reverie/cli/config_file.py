"""Changing one line of `config.toml` and keeping all others as they are, comments included.

The edit is made on the text and then checked: read again, the file must hold exactly the old settings with the one
change. Where that is not so (a table written inline, a value over several lines), nothing is written and the person
is asked to edit the file.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel
from pydantic_core import to_json

from reverie.config import PRIVATE, load_config
from reverie.errors import ConfigError
from reverie.memory.workspace import write_atomic

if TYPE_CHECKING:
    from reverie.config import Config, Home
    from reverie.types import JsonObject

SettingValue = bool | int | float | str | None

_KEY = re.compile(r"[a-z_]+(?:\.[A-Za-z0-9_-]+)+")
_TABLE = re.compile(r"\s*\[")


def save_setting(home: Home, key: str, value: str) -> SettingValue:
    """Set one setting, given in words, in `config.toml`; returns what it now is.

    Raises:
        ConfigError: no such setting, a value out of range, or a file that cannot be edited safely.
        HomeReadOnlyError: the home cannot be written.
    """
    check_key(key)
    checked = value_of(load_config(home, nested(key, value)), key)
    _write(home, key, checked)
    return checked


def remove_setting(home: Home, key: str) -> None:
    """Take one setting out of `config.toml`, so that its default counts again. Raises what `save_setting` raises."""
    check_key(key)
    value_of(load_config(home), key)
    _write(home, key, None)


def value_of(config: Config, key: str) -> SettingValue:
    """The value of a setting by its key, for example `gateway.port`.

    Raises:
        ConfigError: there is no such setting.
    """
    value = _value(config, key)
    if isinstance(value, BaseModel | dict | tuple):
        raise ConfigError("setting", key, "a table or a list; name one setting in it, or edit config.toml")
    return str(value) if isinstance(value, Path) else value


def shown_value(config: Config, key: str) -> SettingValue:
    """The value of a setting, for people; what is a table or a list in `config.toml` is shown as JSON.

    Raises:
        ConfigError: there is no such setting.
    """
    value = _value(config, key)
    return to_json(value).decode() if isinstance(value, dict | tuple) else value_of(config, key)


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        inner = cast("JsonObject", value) if isinstance(value, dict) else None
        if inner is not None and part in inner:
            value = inner[part]
        elif isinstance(value, BaseModel) and part in type(value).model_fields:
            value = getattr(value, part)
        else:
            raise ConfigError("setting", key, "there is no such setting; `reverie config` lists them all")
    return value


def check_key(key: str) -> None:
    """Refuse what cannot be the key of a setting.

    Raises:
        ConfigError: it cannot.
    """
    if _KEY.fullmatch(key) is None:
        raise ConfigError("setting", key, "there is no such setting; `reverie config` lists them all")


def nested(key: str, value: Any) -> JsonObject:
    """A value inside the tables that its key names."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _write(home: Home, key: str, value: SettingValue) -> None:
    file = home.config_file
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    edited = with_setting(text, key, value)
    home.path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    write_atomic(file, edited)


def with_setting(text: str, key: str, value: SettingValue) -> str:
    """The text of `config.toml` with one setting changed, added, or (None) taken out.

    Raises:
        ConfigError: the text is written in a way in which one line cannot be changed alone.
    """
    *tables, name = key.split(".")
    lines = [f"{line}\n" for line in text.removesuffix("\n").split("\n")] if text else []
    edited = "".join(_edited(lines, ".".join(tables), name, None if value is None else f"{name} = {toml(value)}\n"))
    try:
        same = tomllib.loads(edited) == _expected(tomllib.loads(text), tables, name, value)
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise ConfigError(key, value, "config.toml holds it in a form that is not changed here: edit the file")
    return edited


def _edited(lines: list[str], table: str, name: str, line: str | None) -> list[str]:
    header = re.compile(rf"\s*\[\s*{re.escape(table)}\s*\]\s*(?:#.*)?$")
    start = next((number for number, each in enumerate(lines) if header.match(each)), None)
    if start is None:
        gap = ["\n"] if lines and lines[-1].strip() else []
        return lines if line is None else [*lines, *gap, f"[{table}]\n", line]
    end = next((n for n in range(start + 1, len(lines)) if _TABLE.match(lines[n])), len(lines))
    setting = re.compile(rf"\s*{re.escape(name)}\s*=")
    held = next((number for number in range(start + 1, end) if setting.match(lines[number])), None)
    new = [] if line is None else [line]
    if held is not None:
        return [*lines[:held], *new, *lines[held + 1 :]]
    last = next(number for number in range(end - 1, start - 1, -1) if lines[number].strip())
    return [*lines[: last + 1], *new, *lines[last + 1 :]]


def _expected(data: JsonObject, tables: list[str], name: str, value: SettingValue) -> JsonObject:
    """The settings as they must be after the change."""
    if value is None and not _holds(data, tables):
        return data
    table = data
    for part in tables:
        table = table.setdefault(part, {})
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value
    return data


def _holds(data: Any, tables: list[str]) -> bool:
    for part in tables:
        if part not in data:
            return False
        data = data[part]
    return True


def toml(value: bool | int | float | str) -> str:  # noqa: PYI041 (any scalar of a setting)
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
