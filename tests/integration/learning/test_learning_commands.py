"""`reverie learning …` and `reverie skills …` on a real home, without a server and beside one."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from reverie.cli.commands.learning import actions_of
from reverie.cli.main import app
from reverie.cli.running import announced
from reverie.config import Home
from tests.learning_rows import T0, seed

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home in which little was learned."""
    monkeypatch.setenv("REVERIE_LEARNING__MODE", "full")
    home = Home(tmp_path / "home")
    (home.path / "agents" / "main" / "workspace").mkdir(parents=True)
    assert run(home, "learning", "status").exit_code == 0
    seed(home.state_db, "tasks", id="ta_1", state="scored", r_human=0.8)
    seed(home.state_db, "episodes", id="ep_1", task_id="ta_1", title="The drum squeaks", entries=4, steps=2)
    seed(home.state_db, "episode_spans", episode_id="ep_1", first_seq=1, last_seq=4)
    seed(
        home.state_db, "traces", id="tr_1", task_id="ta_1", episode_id="ep_1", summary="greased", value=0.5, alpha=0.25
    )
    seed(home.state_db, "policies", id="po_1", title="Grease it", gain=0.3, support=2, source_episodes=["ep_1"])
    seed(home.state_db, "world_models", id="wm_1", title="The roaster")
    seed(home.state_db, "skills", id="sk_1", name="grease", title="Grease", description="When it squeaks.", eta=0.6,
         guide="# Grease\nOften.")  # fmt: skip
    seed(home.state_db, "feedback", id="fb_1", task_id="ta_1", text="Quiet now")
    seed(home.state_db, "job_requests", key="reward:ta_1:1", kind="reward", state="dead", error="it broke")
    return home


def run(home: Home, *words: str) -> Result:
    """Run a command on a home."""
    return CliRunner().invoke(app, [*words, "--home", str(home.path)])


def run_json(home: Home, *words: str) -> Any:
    """Run a command that must work, and its one object."""
    result = run(home, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("words", "row"),
    [
        (
            "learning episodes",
            "ep_1  2023-11-14 22:13  closed, scored  0.80  4      2      first       The drum squeaks",
        ),
        ("learning traces", "tr_1  2023-11-14 22:13  0.50  0.25  0.50      sessions/s1#L1  greased"),
        ("learning policies", "po_1  active  procedural  0.30  2        Grease it"),
        ("learning world-models list", "wm_1  active  _|_     0.50        1        The roaster"),
        ("skills list", "grease  active  0.60  0      0     0       0       1        When it squeaks."),
        ("learning feedback", "fb_1  2023-11-14 22:13  explicit  positive  1.00       Quiet now"),
        (
            "learning jobs --status dead",
            "reward:ta_1:1  dead   background  0         2023-11-14 22:13             it broke",
        ),
    ],
)
def test_lists(home: Home, words: str, row: str) -> None:
    """Each kind in a table, one row a thing."""
    assert run(home, *words.split()).stdout.splitlines()[1].rstrip() == row


def test_a_list_for_programs(home: Home) -> None:
    """With --json the page is as HTTP gives it."""
    page = run_json(home, "learning", "policies", "--q", "grease", "--limit", "1")

    assert [each["id"] for each in page["data"]] == ["po_1"]
    assert (page["object"], page["has_more"], page["next_after"]) == ("list", False, None)


def test_more_than_is_shown(home: Home) -> None:
    """Where the list goes on is said beside it."""
    seed(home.state_db, "policies", id="po_2", created_at=T0 + 1)

    result = run(home, "learning", "policies", "--limit", "1")
    assert (result.stderr.strip(), "po_1" in result.stdout) == ("there are more: --after po_2", False)
    assert "po_1" in run(home, "learning", "policies", "--after", "po_2").stdout


def test_nothing_there(home: Home) -> None:
    """An empty list says so."""
    assert run(home, "learning", "policies", "--status", "archived").stdout == "no policy is there\n"


def test_one_thing_shown(home: Home) -> None:
    """Fields that say something, then long texts."""
    lines = run(home, "skills", "show", "grease").stdout.splitlines()

    assert lines[0] == "sk_1"
    assert "  eta            0.6" in lines
    assert lines[-3:] == ["guide", "# Grease", "Often."]


def test_why(home: Home) -> None:
    """An explanation names the lines of the transcript."""
    shown = run(home, "learning", "policies", "explain", "po_1").stdout

    assert "sessions/s1#L1-L4" in shown
    assert run_json(home, "learning", "policies", "explain", "po_1")["evidence"][0]["citations"] == [
        "sessions/s1#L1-L4"
    ]


def test_edited(home: Home, tmp_path: Path) -> None:
    """Texts as they are or from a file, lists and switches as JSON."""
    guide = tmp_path / "guide.md"
    guide.write_text("# Better", encoding="utf-8")

    skill = run_json(home, "skills", "edit", "grease", "--set", f"guide=@{guide}", "--set", "title=G")
    policy = run_json(home, "learning", "policies", "edit", "po_1", "--set", 'preference=["often"]', "--set",
                      "skill_eligible=false")  # fmt: skip

    assert (skill["guide"], skill["title"], skill["edited_at_ms"] > T0) == ("# Better", "G", True)
    assert (policy["guidance"]["preference"], policy["skill_eligible"]) == (["often"], False)


def test_switched_archived_deleted(home: Home) -> None:
    """Each action shows the thing as it is then; nothing is deleted unasked."""
    assert run_json(home, "skills", "disable", "grease")["disabled"] is True
    assert run_json(home, "learning", "episodes", "archive", "ep_1")["archived_at_ms"] > T0
    assert run_json(home, "learning", "jobs", "retry", "reward:ta_1:1")["state"] == "waiting"
    assert run_json(home, "learning", "jobs", "cancel", "reward:ta_1:1")["state"] == "cancelled"

    refused = run(home, "skills", "delete", "grease")
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    assert run(home, "skills", "delete", "grease", "--yes").stdout == "sk_1 is deleted\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("learning traces shwo tr_1", 2, "one of list, show, explain, edit, archive, unarchive"),
        ("learning traces show", 2, "needs the id of one trace"),
        ("learning traces list tr_1", 2, "`list` takes none"),
        ("learning traces --status dead", 2, "one of active, archived, failed, unreflected"),
        ("learning traces --agent nobody", 2, "one of this home's agents (main)"),
        ("learning traces show tr_1 --set summary=x", 2, "an option of `edit`"),
        ("learning traces edit tr_1", 2, "FIELD=VALUE with one of summary, reflection"),
        ("learning traces edit tr_1 --set value=1", 2, "FIELD=VALUE with one of summary, reflection"),
        ("learning policies edit po_1 --set skill_eligible=maybe", 2, "JSON, such as true"),
        ("learning traces edit tr_1 --set summary=@nowhere.txt", 2, "a text file that can be read"),
        ("learning traces show tr_9", 1, "There is no trace 'tr_9'."),
        ("learning jobs cancel reward:ta_1:1", 1, "The job is dead: `cancel` is for one"),
        ("learning feedback give --thumb up", 2,
         "exactly one of --session, --turn, --skill, --episode, --task, --trace says what the feedback is about"),
        ("learning feedback give --thumb up --turn t1 --skill kiln", 2, "give = '--turn --skill' is not valid"),
        ("learning feedback give --task ta_1", 2, "one of --thumb, --score, --text says how it was"),
        ("learning feedback give --task ta_1 --thumb up --score 1", 2, "not together with --thumb"),
        ("learning feedback give --task ta_1 --score 2", 2, "--score = 2.0 is not valid: --score must be a number"),
        ("learning feedback give --task ta_9 --thumb up", 1, "there is no task 'ta_9'"),
    ],
)  # fmt: skip
def test_refused(home: Home, words: str, code: int, message: str) -> None:
    """One line says why; the exit code tells wrong use from what could not be done."""
    result = run(home, *words.split())

    assert (result.exit_code, message in result.stderr) == (code, True), result.output


def test_feedback_given(home: Home) -> None:
    """It is kept at once, with its job."""
    taken = run_json(home, "learning", "feedback", "give", "--task", "ta_1", "--score", "-0.5", "--text", "Louder.")

    assert (taken["object"], taken["polarity"], taken["task_id"]) == ("reverie.feedback", "negative", "ta_1")
    kept = run_json(home, "learning", "feedback", "show", taken["id"])
    assert (kept["polarity"], kept["magnitude"], kept["text"], kept["task_id"]) == ("negative", 0.5, "Louder.", "ta_1")
    assert run_json(home, "learning", "jobs", "show", f"feedback:{taken['id']}")["state"] == "waiting"


def test_status(home: Home) -> None:
    """Spend against its limits, each lane, what was learned."""
    lines = run(home, "learning", "status").stdout.splitlines()

    assert lines[0].split() == ["mode", "full"]
    assert "0 of 300 calls, 0 of 1,000,000 tokens" in lines[1]
    assert next(line for line in lines if line.startswith("background")).endswith("0 wait, 0 run, 1 dead")
    assert lines[-1].endswith("episodes 1, traces 1, policies 1, world models 1, skills 1, feedback 1")


@contextmanager
def serving(home: Home, answer: dict[str, Any]) -> Generator[list[tuple[str, str, Any]]]:
    """A server on the home that gives one answer; what it was asked."""
    asked: list[tuple[str, str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            size = int(self.headers.get("content-length", 0))
            if self.path != "/healthz":
                asked.append((self.command, self.path, json.loads(self.rfile.read(size) or b"null")))
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 (names of the standard library)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name of the standard library)
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with announced(home, f"http://127.0.0.1:{server.server_port}"):
            yield asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("learning status", ("GET", "/v1/learning/status?", None)),
        ("skills explain grease", ("GET", "/v1/learning/skills/grease/explain?agent=main", None)),
        ("learning jobs show induce:main:ci/cd", ("GET", "/v1/learning/jobs/induce%3Amain%3Aci%2Fcd?", None)),
        ("skills edit grease --set title=G", ("PATCH", "/v1/learning/skills/grease?agent=main", {"title": "G"})),
        ("learning jobs cancel x", ("POST", "/v1/learning/jobs/x/cancel?", None)),
        ("skills delete grease --yes", ("DELETE", "/v1/learning/skills/grease?agent=main", None)),
        ("learning feedback give --turn t1 --thumb up",
         ("POST", "/v1/feedback?", {"turn_id": "t1", "thumb": "up"})),
    ],
)  # fmt: skip
def test_a_running_server_is_asked(home: Home, words: str, asked: tuple[str, str, Any]) -> None:
    """Whoever serves the home does it, because only it can stop what runs."""
    with serving(home, {"object": "given"}) as heard:
        assert run_json(home, *words.split()) == {"object": "given"}

    assert heard == [asked]


def test_half_empty_pages_are_filled(home: Home) -> None:
    """A list goes on over pages until there is enough, or until a bound."""
    page = {"object": "list", "data": [{"id": "tr_1"}], "has_more": True, "next_after": "tr_1"}
    with serving(home, page) as heard:
        shown = run_json(home, "learning", "traces", "--limit", "3", "--status", "failed")

    assert len(shown["data"]) == 3
    assert [path for _, path, _ in heard] == [
        "/v1/learning/traces?limit=3&agent=main&status=failed",
        "/v1/learning/traces?limit=2&agent=main&status=failed&after=tr_1",
        "/v1/learning/traces?limit=1&agent=main&status=failed&after=tr_1",
    ]


@pytest.mark.parametrize(
    ("kind", "actions"),
    [
        ("episodes", "list show explain archive unarchive"),
        ("traces", "list show explain edit archive unarchive"),
        ("policies", "list show explain edit archive unarchive delete"),
        ("skills", "list show explain edit archive unarchive enable disable delete"),
        ("feedback", "list show explain"),
        ("jobs", "list show explain retry cancel"),
    ],
)
def test_what_can_be_done(kind: Any, actions: str) -> None:
    """Each kind has its actions."""
    assert actions_of(kind) == tuple(actions.split())


def test_no_home(tmp_path: Path) -> None:
    """Without a home nothing is made."""
    result = run(Home(tmp_path / "none"), "learning", "status")

    assert (result.exit_code, "there is no Reverie home" in result.stderr) == (1, True)
    assert not (tmp_path / "none").exists()


def test_a_port_that_nobody_listens_on(home: Home) -> None:
    """What a crashed server left behind misleads nobody."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with announced(home, f"http://127.0.0.1:{port}"):
        assert run_json(home, "skills", "show", "grease")["id"] == "sk_1"
