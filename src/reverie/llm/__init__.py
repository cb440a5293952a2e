"""Models and embedders: the only package that talks to a language model's server.

Purpose: send a prompt to whatever answers (any OpenAI-compatible server, or nothing at all) and turn what comes back
into the events of `client.py`; turn texts into vectors.

Invariant: nothing here knows about sessions, memory or HTTP callers. A call is retried only while nothing of a
successful answer has arrived, every reply and every wait is bounded, and no error message holds a key.

Start reading at `client.py` (the contract), then `openai_compatible.py`. Import the module you need: the package
itself loads no HTTP client and no NumPy, because every command of the CLI passes through here.
"""

from reverie.llm.client import Completed, Model, ModelEvent, ModelRequest, ReasoningText, TextDelta

__all__ = ["Completed", "Model", "ModelEvent", "ModelRequest", "ReasoningText", "TextDelta"]
