"""`/v1/learning/…`: pages, one thing, changes, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import LearnedStateError
from reverie.learning.surfaces.pages import PageRequest
from tests.unit.gateway.scripted_app import ScriptedApp, client_of, config

if TYPE_CHECKING:
    import httpx2

pytestmark = pytest.mark.anyio

ITEM = '{"object":"reverie.learning.policy","id":"po_1","title":"Grüße","gain":0.25}'
SAME_SITE = {"content-type": "application/json"}


async def sent(app: ScriptedApp, method: str, path: str, **body: Any) -> httpx2.Response:
    async with client_of(app, host="127.0.0.1") as client:
        return await client.request(method, path, **body)


async def test_a_page_byte_for_byte() -> None:
    """A list with its items as they are, and where the next page begins; filters arrive as they were given."""
    app = ScriptedApp()

    answer = await sent(app, "GET", "/v1/learning/policies?status=active&q=gru&after=po_9&limit=7")
    assert answer.content.decode() == f'{{"object":"list","data":[{ITEM}],"has_more":false,"next_after":null}}'
    assert answer.headers["content-type"] == "application/json"
    assert app.learning.asked == [(PageRequest("policies", "main", "active", "gru", "po_9", 7),)]


@pytest.mark.parametrize(
    ("path", "agent"), [("jobs", ""), ("jobs?agent=main", "main"), ("traces", "main"), ("traces?agent=main", "main")]
)
async def test_whose(path: str, agent: str) -> None:
    """Everything is of the default agent unless another is named; jobs are of all."""
    app = ScriptedApp()

    await sent(app, "GET", f"/v1/learning/{path}")
    asked = app.learning.asked[0][0]
    assert isinstance(asked, PageRequest)
    assert asked.agent == agent


@pytest.mark.parametrize(
    ("method", "path", "body", "asked", "answer"),
    [
        ("GET", "status", None, ("status",), '{"object":"reverie.learning.status","mode":"full"}'),
        ("GET", "policies/po_1", None, ("show", "policies", "po_1", "main"), ITEM),
        ("GET", "jobs/induce:main:ci%2Fcd%7C_:x", None, ("show", "jobs", "induce:main:ci/cd|_:x", "main"), ITEM),
        ("GET", "policies/po_1/explain", None, ("explain", "policies", "po_1", "main"),
         f'{{"object":"reverie.learning.explanation","kind":"policies","item":{ITEM}}}'),
        ("PATCH", "policies/po_1", b'{"gain":1}', ("edit", "policies", "po_1", {"gain": 1}, "main"),
         ITEM.replace("0.25", "1")),
        ("DELETE", "policies/po_1", None, ("delete", "policies", "po_1", "main"),
         '{"object":"reverie.learning.policy.deleted","id":"po_1","deleted":true}'),
        ("POST", "policies/po_1/archive", None, ("archive", "policies", "po_1", "main"), ITEM),
        ("POST", "episodes/ep_1/unarchive", b"{}", ("unarchive", "episodes", "ep_1", "main"), ITEM),
        ("POST", "skills/brew/enable", None, ("enable", "skills", "brew", "main"), ITEM),
        ("POST", "skills/brew/disable", None, ("disable", "skills", "brew", "main"), ITEM),
        ("POST", "jobs/reward:ta_1:1/retry", None, ("retry", "jobs", "reward:ta_1:1", "main"), ITEM),
        ("POST", "jobs/reward:ta_1:1/cancel", None, ("cancel", "jobs", "reward:ta_1:1", "main"), ITEM),
    ],
)  # fmt: skip
async def test_one_thing_byte_for_byte(
    method: str, path: str, body: bytes | None, asked: tuple[object, ...], answer: str
) -> None:
    """Each route reaches its operation, and its answer goes out as it is."""
    app = ScriptedApp()

    given = await sent(app, method, f"/v1/learning/{path}", content=body)
    assert (given.status_code, given.content.decode()) == (200, answer)
    assert app.learning.asked == [asked]


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "policies/nobody", 404,
         ('{"error":{"message":"There is no policy \'nobody\'.","type":"invalid_request_error","param":"id",'
         '"code":"learned_not_found"}}')),
        ("GET", "dreams", 404,
         ('{"error":{"message":"There are no `dreams`. What is learned: `episodes`, `traces`, `policies`, '
         '`world-models`, `skills`, `feedback`, `jobs`.","type":"invalid_request_error","param":null,'
         '"code":"unknown_url"}}')),
        ("GET", "policies?limit=0", 400,
         ('{"error":{"message":"`limit`: 0 is not valid: a whole number from 1 to 200.",'
         '"type":"invalid_request_error","param":"limit","code":null}}')),
        ("GET", "policies?limit=201", 400,
         ('{"error":{"message":"`limit`: 201 is not valid: a whole number from 1 to 200.",'
         '"type":"invalid_request_error","param":"limit","code":null}}')),
        ("GET", "policies?status=dead", 400,
         ('{"error":{"message":"`status` is one of `candidate`, `active`, `archived`.",'
         '"type":"invalid_request_error","param":"status","code":null}}')),
        ("GET", "policies?state=active", 400,
         ('{"error":{"message":"There is no parameter `state` here: `after`, `agent`, `limit`, `q`, `status`.",'
         '"type":"invalid_request_error","param":"state","code":null}}')),
        ("GET", "policies?agent=nobody", 404,
         ('{"error":{"message":"The agent \'nobody\' does not exist. Agents: main.","type":"invalid_request_error",'
         '"param":"agent","code":"model_not_found"}}')),
        ("POST", "traces/tr_1/enable", 404,
         ('{"error":{"message":"What can be done to a thing of the kind `traces`: `archive`, `unarchive`.",'
         '"type":"invalid_request_error","param":null,"code":null}}')),
    ],
)  # fmt: skip
async def test_what_is_refused(method: str, path: str, status: int, error: str) -> None:
    """With the field that is wrong, and a code where a program could act on it."""
    answer = await sent(ScriptedApp(), method, f"/v1/learning/{path}")

    assert (answer.status_code, answer.content.decode()) == (status, error)


async def test_a_limit_without_end() -> None:
    """Digits that no number is made of are refused like any other limit."""
    answer = await sent(ScriptedApp(), "GET", f"/v1/learning/episodes?limit={'0' * 19}5{'0' * 5_000}")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "limit")


async def test_a_body_where_none_belongs() -> None:
    """An action has no fields."""
    answer = await sent(ScriptedApp(), "POST", "/v1/learning/policies/po_1/archive", json={"why": "so"})

    assert answer.status_code == 400
    assert "empty body" in answer.json()["error"]["message"]


async def test_a_job_in_no_state_for_it() -> None:
    """A conflict, in words."""
    app = ScriptedApp()
    app.learning.refusal = LearnedStateError("The job is done: there is nothing to retry.")

    answer = await sent(app, "POST", "/v1/learning/jobs/x/retry")
    assert (answer.status_code, answer.content.decode()) == (
        409,
        (
            '{"error":{"message":"The job is done: there is nothing to retry.","type":"conflict_error","param":null,'
            '"code":"learned_state"}}'
        ),
    )


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "jobs/x", "GET"),
        ("DELETE", "traces/tr_1", "GET, PATCH"),
        ("PUT", "policies/po_1", "GET, PATCH, DELETE"),
        ("POST", "policies", "GET"),
        ("GET", "policies/po_1/archive", "POST"),
        ("POST", "status", "GET"),
    ],
)
async def test_other_methods(method: str, path: str, allowed: str) -> None:
    """A method that a kind does not have says which there are."""
    answer = await sent(ScriptedApp(), method, f"/v1/learning/{path}")

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_it_is_guarded() -> None:
    """As everything below `/v1`; in mode `none` a foreign Host header is refused."""
    guarded = ScriptedApp(config=config(gateway={"auth": "token"}))
    async with client_of(guarded, token="t", host="127.0.0.1") as client:
        assert (await client.get("/v1/learning/status")).status_code == 401
        assert (await client.post("/v1/feedback")).status_code == 401
    async with client_of(ScriptedApp(), host="evil.example") as client:
        assert (await client.get("/v1/learning/status")).status_code == 403
