"""Public doubles for tests: of the model, the embedder, the clock, a context engine, and of servers.

Purpose: let a test of anything in Reverie, or built on it, decide what the world answers, without patching.

Invariant: a double behaves like what it stands for, is deterministic, and fails the test when it is used in a way
the test did not write down.

Start reading at `scripted_model.py`. `fake_upstream.py` (chat completions) and `fake_responses.py` (the Responses API,
with a log of what each prompt repeats) are real HTTP servers, `fake_app_server.py` is a Codex app-server without a
process; they are imported by their own names.
"""

from reverie.testing.fake_clock import FakeClock
from reverie.testing.fake_embedder import FakeEmbedder
from reverie.testing.flaky_model import FlakyModel
from reverie.testing.inline_jobs import InlineJobs
from reverie.testing.scripted_asks import ScriptedAsks
from reverie.testing.scripted_engine import ScriptedEngine
from reverie.testing.scripted_model import ScriptedModel, ScriptedReply, reply

__all__ = [
    "FakeClock",
    "FakeEmbedder",
    "FlakyModel",
    "InlineJobs",
    "ScriptedAsks",
    "ScriptedEngine",
    "ScriptedModel",
    "ScriptedReply",
    "reply",
]
