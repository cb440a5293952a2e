"""`reverie config`: what every setting is, where its value comes from, and changing one."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic_settings import EnvSettingsSource

from reverie.cli.config_file import check_key, remove_setting, save_setting, shown_value, value_of
from reverie.cli.output import columns, dim, say, say_json
from reverie.config import AgentConfig, Config, PluginConfig, field_range, load_config, resolve_home
from reverie.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic.fields import FieldInfo

    from reverie.cli.config_file import SettingValue
    from reverie.config import Home
    from reverie.types import JsonObject

SET_WORDS, UNSET_WORDS, SHOW_WORDS = 3, 2, 1


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as it is shown. `origin` says where its value comes from."""

    key: str
    value: SettingValue
    origin: Literal["environment", "config.toml", "default"]
    allowed: str
    purpose: str


def config_command(given: Path | None, words: Sequence[str], *, check: bool, as_json: bool) -> None:
    """Show all settings or one, check them, or change one.

    Raises:
        ConfigError: the configuration, or what was asked, is not valid.
    """
    home = resolve_home(given)
    match words:
        case ["set", key, value]:
            saved = save_setting(home, key, value)
            _report_change(home, key, saved, as_json=as_json)
        case ["unset", key]:
            remove_setting(home, key)
            _report_change(home, key, None, as_json=as_json)
        case [] if check:
            load_config(home)
            _report_valid(home, as_json=as_json)
        case []:
            _show(home, list_settings(home), as_json=as_json)
        case [key] if key not in {"set", "unset"}:
            _show(home, [find_setting(home, key)], as_json=as_json)
        case _:
            raise ConfigError("config", " ".join(words), "KEY, or set KEY VALUE, or unset KEY")


def list_settings(home: Home) -> list[Setting]:
    """Every setting of a home.

    Raises:
        ConfigError: the configuration is not valid.
    """
    config = load_config(home)
    file: JsonObject = tomllib.loads(home.config_file.read_text(encoding="utf-8")) if home.config_file.exists() else {}
    environment = EnvSettingsSource(Config)()
    keys = [each for section, model in _sections() for each in _fields(section, model)]
    keys += [each for agent in config.agents for each in _fields(f"agents.{agent}", AgentConfig)]
    keys += [each for plugin in config.plugins for each in _fields(f"plugins.{plugin}", PluginConfig)]
    return [_setting(config, key, info, environment, file) for key, info in keys]


def find_setting(home: Home, key: str) -> Setting:
    """One setting by its key.

    Raises:
        ConfigError: there is no such setting, or the configuration is not valid.
    """
    check_key(key)
    for setting in list_settings(home):
        if setting.key == key:
            return setting
    value_of(load_config(home), key)
    raise ConfigError("setting", key, "there is no such setting; `reverie config` lists them all")


def _sections() -> list[tuple[str, type[BaseModel]]]:
    found: list[tuple[str, type[BaseModel]]] = []
    for name, info in Config.model_fields.items():
        kind: Any = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append((name, kind))
    return found


def _fields(section: str, model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """The settings of a table, then those of the tables in it."""
    here: list[tuple[str, FieldInfo]] = []
    below: list[tuple[str, FieldInfo]] = []
    for name, info in model.model_fields.items():
        inner: Any = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            below += _fields(f"{section}.{name}", inner)
        else:
            here.append((f"{section}.{name}", info))
    return here + below


def _setting(config: Config, key: str, info: FieldInfo, environment: JsonObject, file: JsonObject) -> Setting:
    origin: Literal["environment", "config.toml", "default"] = "default"
    if _held(environment, key):
        origin = "environment"
    elif _held(file, key):
        origin = "config.toml"
    return Setting(key, shown_value(config, key), origin, _allowed(key, info), info.description or "")


def _held(values: JsonObject, key: str) -> bool:
    held: Any = values
    for part in key.split("."):
        if not isinstance(held, dict) or part not in held:
            return False
        held = cast("JsonObject", held)[part]
    return True


def _allowed(key: str, info: FieldInfo) -> str:
    """What the values may be, in words; empty for free text."""
    bounds = field_range(tuple(key.split(".")))
    if bounds:
        return bounds.replace(key, "value")
    kind: Any = info.annotation
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if kind is bool:
        return "true | false"
    patterns = [each.pattern for each in info.metadata if getattr(each, "pattern", None)]
    return f"matching {patterns[0]}" if patterns else ""


def _show(home: Home, settings: list[Setting], *, as_json: bool) -> None:
    if as_json:
        say_json({"home": str(home.path), "settings": [asdict(setting) for setting in settings]})
        return
    if len(settings) > 1:
        say(f"Settings of {home.path} (change one with `reverie config set KEY VALUE`)")
    section = ""
    for setting in settings:
        table = setting.key.rpartition(".")[0]
        if len(settings) > 1 and table != section:
            section = table
            say(f"\n[{table}]")
        _show_setting(setting)


def _show_setting(setting: Setting) -> None:
    shown = "(unset)" if setting.value is None else _words(setting.value)
    allowed = f"; {setting.allowed}" if setting.allowed else ""
    (line,) = columns([(setting.key, f"{shown}  {dim(f'[{setting.origin}{allowed}]')}")], indent="")
    say(line)
    say(f"    {setting.purpose}")


def _words(value: bool | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _report_change(home: Home, key: str, value: SettingValue, *, as_json: bool) -> None:
    now = find_setting(home, key)
    if as_json:
        say_json({"file": str(home.config_file), "key": key, "value": value, "effective": now.value})
        return
    done = f"{key} = {_words(value)}" if value is not None else f"{key} removed, now {now.value}"
    say(f"{done}  ({home.config_file}; a running server needs a restart)")
    if value is not None and now.origin == "environment":
        say(f"The environment sets it too, and wins: {now.value}")


def _report_valid(home: Home, *, as_json: bool) -> None:
    if as_json:
        say_json({"home": str(home.path), "valid": True})
    else:
        say(f"The configuration of {home.path} is valid.")
