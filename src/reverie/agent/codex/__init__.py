"""The Codex app-server: a child process that keeps threads of its own, spoken to in lines of JSON over its streams.

Purpose: start, resume and steer native threads, and hear what happens in them, whatever becomes of the process.

Invariant: nothing here waits without a bound, no queue grows without one, and a child that ends is noticed at once by
everybody who waits for it. The child ends with this process, however that ends: its stdin closes.

Start reading at `app_server.py` (what can be asked), then `process.py` (the child), `rpc.py` (the lines) and
`protocol.py` (what they say). `native_turn.py` runs one turn, `steering.py` sends messages into it;
`threaded_turn.py` is one turn of ours on its way through a thread.
"""
