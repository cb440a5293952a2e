"""Editing one line of config.toml."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.cli.config_file import remove_setting, save_setting, value_of, with_setting
from reverie.config import Config, Home, load_config
from reverie.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
# My settings.
[gateway]
port = 9000  # behind the proxy
host = "127.0.0.1"

[memory]
tools = false
"""


class TestWithSetting:
    def test_changed(self) -> None:
        """A setting that stands there is replaced in its place; everything else stays, comments included."""
        assert with_setting(FILE, "gateway.host", "::1") == FILE.replace('"127.0.0.1"', '"::1"')

    def test_added_to_its_table(self) -> None:
        """A new setting goes to the end of its table."""
        assert with_setting(FILE, "gateway.drain_s", 2.5) == FILE.replace(
            'host = "127.0.0.1"\n', 'host = "127.0.0.1"\ndrain_s = 2.5\n'
        )

    def test_added_with_its_table(self) -> None:
        """A table that is missing is added at the end."""
        assert with_setting(FILE, "upstream.model", "x") == f'{FILE}\n[upstream]\nmodel = "x"\n'

    def test_empty_file(self) -> None:
        """The first setting makes the file."""
        assert with_setting("", "memory.watch", value=True) == "[memory]\nwatch = true\n"

    def test_removed(self) -> None:
        """A setting is taken out alone."""
        assert with_setting(FILE, "gateway.host", None) == FILE.replace('host = "127.0.0.1"\n', "")

    @pytest.mark.parametrize("key", ["gateway.auth", "upstream.model", "agents.work.workspace"])
    def test_removing_what_is_not_there(self, key: str) -> None:
        """Taking out what is not there changes nothing."""
        assert with_setting(FILE, key, None) == FILE

    @pytest.mark.parametrize(
        "text",
        [
            "gateway = { port = 1 }\n",
            "gateway.port = 1\n",
            '[gateway]\nhost = """\n[x]\nport = 2\n"""\nport = 1\n',
            "['gateway']\nport = 1\n",
        ],
    )
    def test_unusual_forms_are_refused(self, text: str) -> None:
        """Where one line cannot be changed alone, the file is left to the person."""
        with pytest.raises(ConfigError, match="edit the file"):
            with_setting(text, "gateway.port", 5)

    @given(st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text()))
    def test_any_value(self, value: Any) -> None:
        """Whatever the value, the file reads back as it."""
        text = with_setting(FILE, "gateway.x", value)

        assert tomllib.loads(text)["gateway"]["x"] == value
        assert with_setting(text, "gateway.x", None) == FILE


class TestSaveSetting:
    def test_saved(self, tmp_path: Path) -> None:
        """Words become a value of the setting's type, in the file of a home that may not exist yet."""
        home = Home(tmp_path / "new")

        assert save_setting(home, "gateway.port", "9000") == 9000
        assert save_setting(home, "memory.tools", "false") is False
        assert save_setting(home, "agents.work.workspace", "/srv/work") == "/srv/work"
        assert home.config_file.read_text(encoding="utf-8") == (
            '[gateway]\nport = 9000\n\n[memory]\ntools = false\n\n[agents.work]\nworkspace = "/srv/work"\n'
        )
        assert load_config(home).gateway.port == 9000

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            (
                "gateway.port",
                "70000",
                r"gateway\.port = '70000' is not valid: .* \(allowed: 0 ≤ gateway\.port ≤ 65535\)",
            ),
            ("gateway.prot", "1", r"gateway\.prot = '1' is not valid: there is no such setting"),
            ("gateway", "1", "there is no such setting"),
            ("Gateway Port", "1", "there is no such setting"),
            ("agents.main", "1", "agents.main"),
        ],
    )
    def test_refused(self, tmp_path: Path, key: str, value: str, message: str) -> None:
        """A value out of range or an unknown key changes nothing."""
        home = Home(tmp_path)

        with pytest.raises(ConfigError, match=message):
            save_setting(home, key, value)
        assert not home.config_file.exists()

    def test_wrong_value_can_be_repaired(self, tmp_path: Path) -> None:
        """A value that keeps Reverie from starting is replaced like any other."""
        home = Home(tmp_path)
        home.config_file.write_text("[gateway]\nport = 70000\n", encoding="utf-8")

        save_setting(home, "gateway.port", "9000")

        assert load_config(home).gateway.port == 9000

    def test_removed(self, tmp_path: Path) -> None:
        """A setting that is taken out has its default again."""
        home = Home(tmp_path)
        save_setting(home, "gateway.port", "9000")

        remove_setting(home, "gateway.port")

        assert load_config(home).gateway.port == 8377

    def test_removing_the_unknown(self, tmp_path: Path) -> None:
        """There must be such a setting."""
        with pytest.raises(ConfigError, match="there is no such setting"):
            remove_setting(Home(tmp_path), "gateway.prot")


def test_value_of() -> None:
    """A setting is found by its key; a table is not a setting."""
    config = Config()

    assert value_of(config, "gateway.port") == 8377
    with pytest.raises(ConfigError, match="a table"):
        value_of(config, "agents")
