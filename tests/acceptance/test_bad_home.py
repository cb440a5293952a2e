"""A home that cannot be used: each time one line that says what is wrong and what to do, and nothing is overwritten."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from reverie.testing.fake_upstream import Plan
from tests.acceptance.servers import WITHOUT_MEMORY, server_at, until, upstream_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.acceptance.servers import Answer, Server, WithUpstream

COULD_NOT = 1
WRONG_USE = 2
KIB = 1024
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 (the tests are about who may listen there)


def check_one_line(printed: str, *parts: str) -> None:
    """What a person reads is one line that holds all of this, and no trace."""
    (line,) = printed.strip().splitlines()
    assert line.startswith("error: ")
    assert [part for part in parts if part not in line] == [], line


@pytest.fixture(scope="module")
def used_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one answered turn in it."""
    with server_at(tmp_path_factory.mktemp("used") / "home") as made:
        made.environment |= WITHOUT_MEMORY
        made.start()
        assert made.chat("The boat is called Alba.").status == 200
        assert made.stop() == 0
        return made.home


@pytest.fixture
def used(server: Server, used_home: Path) -> Server:
    """A server on a copy of that home, not started yet."""
    shutil.copytree(used_home, server.home)
    server.environment |= WITHOUT_MEMORY
    return server


# -- databases -------------------------------------------------------------------------------------------------------


def overwrite(path: Path) -> None:
    path.write_bytes(b"no database\n" * 1000)


def lose_beginning(path: Path) -> None:
    path.write_bytes(path.read_bytes()[4096:])


def garble(path: Path) -> None:
    """The header and the schema are whole; what the tables hold is not."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def replace_by_other_program(path: Path) -> None:
    path.unlink()
    with closing(apsw.Connection(str(path))) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")


@pytest.mark.parametrize(
    ("name", "damage", "remedy"),
    [
        ("state.db", overwrite, "restore it from a backup"),
        ("state.db", lose_beginning, "restore it from a backup"),
        ("state.db", garble, "restore it from a backup"),
        ("state.db", replace_by_other_program, "Move it away"),
        ("embeddings.db", overwrite, "move or delete it"),
    ],
)
def test_a_damaged_database(used: Server, name: str, damage: Callable[[Path], None], remedy: str) -> None:
    """The start is refused with the file and its remedy, and the file stays as it is."""
    path = used.home / name
    damage(path)
    before = path.read_bytes()
    code, printed = used.refused()

    assert code == COULD_NOT
    check_one_line(printed, str(path), "Nothing was changed", remedy)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [garble, overwrite, replace_by_other_program, Path.unlink])
def test_a_lost_index_is_rebuilt(used: Server, damage: Callable[[Path], None]) -> None:
    """The index is derived: a damaged one is put aside, and a start without one makes it anew."""
    damage(used.home / "index.db")
    used.environment["REVERIE_MEMORY__RECALL_HITS"] = "3"
    used.start()

    assert "“The boat is called Alba.” [sessions/" in used.chat("What is the boat called?", user="other").text


def test_a_newer_schema(used: Server) -> None:
    """A database of a newer Reverie is refused with both versions, and stays as it is."""
    path = used.home / "state.db"
    with closing(apsw.Connection(str(path))) as connection:
        connection.pragma("journal_mode", "delete")
        connection.pragma("user_version", 999)
    before = path.read_bytes()
    code, printed = used.refused()

    assert code == COULD_NOT
    check_one_line(printed, str(path), "schema 999", "newer Reverie", "--home")
    assert path.read_bytes() == before


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[gateway]\ndrain_s = 99999\n", ["gateway.drain_s", "99999", "0 ≤ gateway.drain_s ≤ 600"]),
        ('[upstream]\nread_s = "soon"\n', ["upstream.read_s", "'soon'", "3600"]),
        ("[memory]\nembeder = 'none'\n", ["memory.embeder", "there is no such setting"]),
        ("[gateway\n", ["config.toml", "a TOML file", "line 1"]),
        ('[gateway]\nauth = "password"\n', ["gateway.auth", "'password'", "'none' or 'token'"]),
    ],
)
def test_a_bad_setting_in_the_file(server: Server, text: str, parts: list[str]) -> None:
    """A setting that is wrong is refused with its key, its value and what is allowed."""
    server.home.mkdir()
    (server.home / "config.toml").write_text(text, encoding="utf-8")
    code, printed = server.refused()

    assert code == WRONG_USE
    check_one_line(printed, *parts)
    assert [path.name for path in server.home.iterdir()] == ["config.toml"]


def test_a_bad_setting_in_the_environment(server: Server) -> None:
    """The environment is held to the same ranges."""
    server.environment["REVERIE_MEMORY__RECALL_HITS"] = "many"
    code, printed = server.refused()

    assert code == WRONG_USE
    check_one_line(printed, "memory.recall_hits", "'many'", "50")


# -- address ---------------------------------------------------------------------------------------------------------


def test_a_port_in_use(server: Server) -> None:
    """Another program's port is named, with the way out; no home is made."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server.arguments += ["--port", str(port)]
        code, printed = server.refused()

    assert code == COULD_NOT
    check_one_line(printed, f"port {port}", "in use", "--port")
    assert not server.home.exists()


@pytest.mark.parametrize("host", [ALL_ADDRESSES, "::", "192.0.2.1"])
def test_strangers_need_a_token(server: Server, host: str) -> None:
    """An address that others can reach is refused without a token."""
    server.arguments += ["--host", host]
    code, printed = server.refused()

    assert code == WRONG_USE
    check_one_line(printed, "gateway.host", host, "token", "REVERIE_TOKEN")


def test_mode_token_needs_a_token(server: Server) -> None:
    """Token mode without a token does not fall back to an open door."""
    server.environment["REVERIE_GATEWAY__AUTH"] = "token"
    code, printed = server.refused()

    assert code == WRONG_USE
    check_one_line(printed, "gateway.auth", "REVERIE_TOKEN")


def test_a_token(server: Server) -> None:
    """With a token, on all addresses: every /v1 path needs it, the probes do not, and a good caller is served."""
    server.environment |= {**WITHOUT_MEMORY, "REVERIE_GATEWAY__AUTH": "token", "REVERIE_TOKEN": "open-sesame-123"}
    server.arguments += ["--host", ALL_ADDRESSES]
    server.start()
    good = {"Authorization": "Bearer open-sesame-123"}
    refused = [
        server.chat("hello"),
        server.chat("hello", headers={"Authorization": "Bearer open-sesame-124"}),
        server.get("/v1/models"),
        server.get("/metrics"),
    ]

    assert [answer.status for answer in refused] == [401] * 4
    assert [answer.json for answer in refused] == [{"error": {"message": "Unauthorized", "type": "unauthorized"}}] * 4
    assert server.chat("hello", headers=good).status == 200
    assert server.get("/v1/models", good).status == 200
    assert server.get("/healthz").status == 200
    assert len(server.transcript()) == 2
    assert "open-sesame" not in server.log


# -- the home itself -------------------------------------------------------------------------------------------------


def test_a_home_in_use(used: Server) -> None:
    """A second server on the same home is refused with the process that has it; the first one is not disturbed."""
    used.start()
    with server_at(used.home.parent / "other") as second:
        second.arguments += ["--home", str(used.home)]
        code, printed = second.refused()

    assert code == COULD_NOT
    check_one_line(printed, str(used.home), f"process {used.pid}", "--home")
    assert used.chat("Still there?").status == 200


def test_a_home_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    """A place where nothing can be made, for example below a file, is refused by name."""
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    server.arguments += ["--home", str(tmp_path / "file" / "home")]
    code, printed = server.refused()

    assert code == COULD_NOT
    check_one_line(printed, str(tmp_path / "file" / "home"), "cannot be written", "--home")


def in_mounts_of_its_own(server: Server, mount: str) -> None:
    """Let the server see its home through a mount that only it has; skip the test where that is not permitted."""
    for flags in ("-rm", "-m"):
        wrapper = ["unshare", flags, "sh", "-c", f'{mount} && shift && exec "$@"', "sh", str(server.home)]
        try:
            probe = subprocess.run([*wrapper, "true"], capture_output=True, check=False)
        except FileNotFoundError:
            break
        if probe.returncode == 0:
            server.wrapper, server.mounts_of_its_own = wrapper, True
            return
    pytest.skip("this machine does not let a process have mounts of its own")


def test_a_read_only_home(used: Server) -> None:
    """A home on a medium that cannot be written is refused, and is as it was afterwards."""
    in_mounts_of_its_own(used, 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"')
    before = {path.name: path.read_bytes() for path in used.home.glob("*.db")}
    code, printed = used.refused()

    assert code == COULD_NOT
    check_one_line(printed, str(used.home), "cannot be written", "--home")
    assert {path.name: path.read_bytes() for path in used.home.glob("*.db")} == before


# -- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def on_small_disk(server: Server) -> Iterator[WithUpstream]:
    """A running server whose home is a disk of 8 MiB."""
    server.home.mkdir()
    in_mounts_of_its_own(server, 'mount -t tmpfs -o size=8m small "$1"')
    server.environment |= WITHOUT_MEMORY
    with upstream_for(server, Plan(echo=True)) as both:
        server.start()
        yield both


def fill(folder: Path) -> Path:
    """A file that takes all the room that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (64 * KIB, 4 * KIB, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    assert shutil.disk_usage(folder).free == 0
    return filler


def talk_until_refused(server: Server, turns_max: int) -> tuple[list[str], Answer]:
    """Messages of some size until one fails: the replies before it, and the failure."""
    replies: list[str] = []
    for number in range(turns_max):
        answer = server.chat(f"message {number} " + "x" * 4_000)
        if answer.status != 200:
            return replies, answer
        replies.append(answer.text)
    raise AssertionError(f"{turns_max} turns found room")


def test_a_full_disk(on_small_disk: WithUpstream) -> None:
    """What cannot be kept is refused as 507, saying why; what was acknowledged is there, and turns work with room."""
    server = on_small_disk.server
    first = server.chat("first").text
    filler = fill(server.seen_home)
    replies, answer = talk_until_refused(server, 500)  # room that the database has already is used up first
    again = server.chat("one more", stream=True)
    healthy = server.get("/healthz")
    filler.unlink()
    after = server.chat("There is room again.")

    assert (answer.status, answer.error["code"]) == (507, "storage_full")
    assert "disk is full" in answer.error["message"]
    assert (again.status, again.error["code"]) == (507, "storage_full")
    assert healthy.status == 200
    assert after.text == "There is room again."
    said = [text for role, text in server.transcript() if role == "assistant"]
    assert said == [first, *replies, "There is room again."]


def test_a_disk_that_fills_while_the_model_answers(on_small_disk: WithUpstream) -> None:
    """An answer that cannot be recorded is not given; the message before it is kept, and turns work with room."""
    server = on_small_disk.server
    on_small_disk.upstream.plan = Plan(text="y" * 1_000_000, delay_s=1)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(server.chat, "Write a long answer.")
        until(lambda: on_small_disk.asked, "the model is asked")
        filler = fill(server.seen_home)
        answer = asking.result()
    filler.unlink()
    on_small_disk.upstream.plan = Plan(echo=True)
    after = server.chat("And a short one?")

    assert (answer.status, answer.error["code"]) == (507, "storage_full")
    assert after.text == "And a short one?"
    assert server.transcript() == [
        ("user", "Write a long answer."), ("user", "And a short one?"), ("assistant", "And a short one?"),
    ]  # fmt: skip


def test_a_disk_that_refuses_to_write(used: Server) -> None:
    """Files that may not grow stand for a failing disk: a server error says so; afterwards everything kept is there."""
    size = max(path.stat().st_size for path in used.home.glob("*.db*"))
    used.wrapper = ["sh", "-c", f'ulimit -f {2 * size // 512} && shift && exec "$@"', "sh", "-"]
    used.start()
    replies, answer = talk_until_refused(used, 200)
    healthy = used.get("/healthz")
    used.stop()
    used.wrapper = []
    used.start()
    after = used.chat("And now?")

    assert answer.status in {500, 507}
    assert answer.error["code"] in {"storage_failed", "storage_full"}
    assert healthy.status == 200
    assert after.status == 200
    roles = [role for role, _ in used.transcript()[2:]]  # the last turn may be kept although its caller was refused
    assert roles[: 2 * len(replies)] == ["user", "assistant"] * len(replies)
    assert len(roles) <= 2 * len(replies) + 4


def test_errors_as_json(server: Server) -> None:
    """With `--json` a refusal to start is one object for programs."""
    server.environment["REVERIE_GATEWAY__PORT"] = "99999"
    server.arguments += ["--json"]
    with server_at(server.home) as other:
        other.environment |= server.environment
        shown = other.run("config", "--json")

    assert shown.returncode == WRONG_USE
    assert json.loads(shown.stderr)["error"]["type"] == "ConfigError"
    assert "gateway.port" in json.loads(shown.stderr)["error"]["message"]
