"""Settings: where they come from, and what a wrong one says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.config import Config, Home, field_range, load_config, read_secret, resolve_home
from reverie.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.types import JsonObject


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_without_anything_the_defaults_hold(home: Home) -> None:
    """A home needs no file, and loopback needs no token."""
    config = load_config(home)

    assert (config.gateway.host, config.gateway.port, config.gateway.auth) == ("127.0.0.1", 8377, "none")
    assert config.upstream.base_url is None
    assert config.agent_names() == ("main",)


def test_flags_win_over_the_environment_and_the_environment_over_the_file(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest word counts, key by key."""
    home.config_file.write_text('[gateway]\nport = 1111\nhost = "127.0.0.2"\nturn_s_max = 5.0\n')
    monkeypatch.setenv("REVERIE_GATEWAY__PORT", "2222")
    monkeypatch.setenv("REVERIE_GATEWAY__HOST", "127.0.0.3")

    gateway = load_config(home, {"gateway": {"port": 3333}}).gateway

    assert (gateway.port, gateway.host, gateway.turn_s_max) == (3333, "127.0.0.3", 5.0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"gateway": {"port": 70_000}}, r"gateway.port = 70000 is not valid: .*0 ≤ gateway.port ≤ 65535"),
        ({"memory": {"recall_hits": -1}}, r"memory.recall_hits = -1 .*0 ≤ memory.recall_hits ≤ 50"),
        ({"memory": {"embedder": "magic"}}, r"memory.embedder = 'magic' .*'bundled', 'openai' or 'none'"),
        ({"upstream": {"base_url": "ftp://x"}}, r"upstream.base_url = 'ftp://x' .*http:// or https://"),
        ({"upstream": {"speed": 1}}, r"upstream.speed = 1 .*no such setting"),
        (
            {"threads": {"guard_tokens": "many"}},
            r"threads.guard_tokens = 'many' .*from 1 to 100000000, `auto` or `off`",
        ),
        ({"threads": {"guard_tokens": 0}}, r"threads.guard_tokens = 0 "),
        ({"threads": {"guard_tokens": True}}, r"threads.guard_tokens = True "),
        ({"threads": {"guard_bytes": "20xb"}}, r"threads.guard_bytes = '20xb' .*a size such as `20mb`"),
        ({"threads": {"projection_chars_max": 5}}, r"24000 ≤ threads.projection_chars_max ≤ 1000000"),
        ({"sessions": {"main_key": "Not Good"}}, r"sessions.main_key = 'Not Good'"),
    ],
)
def test_a_wrong_value_names_key_value_and_what_is_allowed(home: Home, flags: JsonObject, message: str) -> None:
    """Whoever reads the error can mend it without the manual."""
    with pytest.raises(ConfigError, match=message):
        load_config(home, flags)


def test_guards_of_threads_in_words_and_for_one_agent(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes have units, tokens may be a word; what an agent does not set is everybody's."""
    home.config_file.write_text(
        '[threads]\nguard_tokens = "OFF"\nguard_bytes = "1.5g"\nwindows = { "gpt-5" = 258_400 }\n'
        "[agents.work.threads]\nguard_tokens = 90_000\nprojection_chars_max = 30_000\n"
    )
    monkeypatch.setenv("REVERIE_THREADS__RESERVE_TOKENS", "10000")
    config = load_config(home)
    threads, own = config.threads, config.threads_of("work")

    assert (threads.guard_tokens, threads.guard_bytes, threads.reserve_tokens) == ("off", 1536 * 1024**2, 10_000)
    assert config.threads_of("main") is threads
    assert own == threads.model_copy(update={"guard_tokens": 90_000, "projection_chars_max": 30_000})
    monkeypatch.setenv("REVERIE_THREADS__GUARD_TOKENS", "50000")
    assert load_config(home).threads.guard_tokens == 50_000


def test_a_file_that_is_not_toml_is_named(home: Home) -> None:
    """With the parser's place."""
    home.config_file.write_text("[gateway\nport = 1")

    with pytest.raises(ConfigError, match=r"config.toml.*line 1"):
        load_config(home)


def test_a_secret_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file wins; an empty variable is none."""
    monkeypatch.setenv("SOME_KEY", " from-env ")
    file = tmp_path / "key"
    file.write_text("from-file\n")

    assert read_secret("SOME_KEY", None) == "from-env"
    assert read_secret("SOME_KEY", file) == "from-file"
    monkeypatch.setenv("SOME_KEY", "")
    assert read_secret("SOME_KEY", None) is None


def test_a_secret_file_that_cannot_be_used_is_named_without_its_content(tmp_path: Path) -> None:
    """Missing and empty files are told apart."""
    empty = tmp_path / "empty"
    empty.write_text("\n")

    with pytest.raises(ConfigError, match="not empty"):
        read_secret("X", empty)
    with pytest.raises(ConfigError, match="readable"):
        read_secret("X", tmp_path / "missing")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("lan", False)],  # noqa: S104 (an address to be refused)
)
def test_only_loopback_addresses_are_private(home: Home, host: str, *, loopback: bool) -> None:
    """Every other address needs a token."""
    assert load_config(home, {"gateway": {"host": host}}).gateway.is_loopback is loopback


def test_the_home_is_given_or_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--home` wins over REVERIE_HOME."""
    monkeypatch.setenv("REVERIE_HOME", str(tmp_path / "env"))

    assert resolve_home(None).path == tmp_path / "env"
    assert resolve_home(tmp_path / "given").path == tmp_path / "given"


def test_an_agents_workspace_is_in_the_home_or_where_it_is_configured(home: Home, tmp_path: Path) -> None:
    """An existing workspace can be used in place."""
    config = load_config(home, {"agents": {"ops": {"workspace": str(tmp_path / "elsewhere")}}})

    assert config.agent_names() == ("main", "ops")
    assert home.workspace(config, "main") == home.path / "agents" / "main" / "workspace"
    assert home.workspace(config, "ops") == tmp_path / "elsewhere"


def test_every_setting_explains_itself() -> None:
    """Each has a default and a sentence; each number has a range."""
    for section_name, section in Config.model_fields.items():
        if not hasattr(section.annotation, "model_fields"):
            continue
        for name, info in section.annotation.model_fields.items():  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
            assert info.description, f"{section_name}.{name} has no explanation"  # pyright: ignore[reportUnknownMemberType]
            if info.annotation in {int, float}:  # pyright: ignore[reportUnknownMemberType]
                assert field_range((section_name, str(name))), f"{section_name}.{name} has no range"  # pyright: ignore[reportUnknownArgumentType]
