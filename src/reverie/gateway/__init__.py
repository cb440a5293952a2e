"""The HTTP edge: the only package that knows OpenAI's wire format.

Purpose: parse a request once, at the door, into a `TurnRequest`, and render what comes back from the session's queue,
a stream of `TurnEvent` values, as one JSON answer or as server-sent events. The turn belongs to the queue and not to
the connection: a caller who leaves stops receiving, nothing else.

Invariant: every refusal is made before `submit`, so a refused request never reaches an agent; and whatever a caller
sends, the answer is one of the errors named here and never an unexplained 500.

Start reading at `server.create_gateway` (what answers where), then `chat_completions` (one request, top to bottom),
`wire` (what a body may say) and `routing` (which session it means). `memory_api` is the
memory without a conversation. `ports` is all the gateway knows of the rest.
"""
