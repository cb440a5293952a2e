"""Every error Reverie raises on purpose, as one tree.

    ReverieError
    ├── ConfigError                 a setting is wrong: names key, value and what is allowed
    ├── HomeError                   the home directory cannot be used
    │   ├── HomeReadOnlyError       it cannot be written
    │   └── HomeInUseError          another Reverie process owns it
    ├── StorageError                a database could not do what was asked
    │   ├── DatabaseCorruptError    the file is damaged; nothing was overwritten
    │   ├── DatabaseTooNewError     the file was written by a newer Reverie
    │   ├── StorageFullError        the disk is full; the change was rolled back
    │   ├── StorageClosedError      the database was closed while the call waited
    │   └── OriginsFullError        no more can be known of whose words stand in notes
    ├── RequestError                what the caller sent cannot be served (HTTP 4xx)
    │   ├── UnknownModelError       no such model or agent
    │   ├── UnknownSessionError     no such session
    │   ├── ContextTooLongError     the new message alone exceeds the model's window
    │   ├── NothingToCompactError   a conversation is too short to be compacted
    │   ├── RebuildRunsError        what is asked for must wait until the index is rebuilt
    │   ├── DreamingBlockedError    something keeps dreaming from it
    │   ├── EngineUnsupportedError  the context engine needs what the agent's runtime does not have
    │   ├── UnknownFeedbackTargetError  there is nothing of that id that could be judged
    │   ├── NoThreadError           a session has no native thread that may be replaced
    │   ├── UnknownLearnedError     nothing of that name was learned, and no job is of that key
    │   ├── LearnedStateError       what was learned, or a job, is in no state for what is asked
    │   ├── QueueFullError          too many turns wait in this session
    │   ├── SessionBusyError        the session is busy and the caller did not want to wait
    │   └── MessageKeyReusedError   the client's key already stands for another message
    ├── UpstreamError               the model did not answer as it should
    │   ├── UpstreamUnreachableError  no connection
    │   │   └── UpstreamClosedError   a connection that was closed before an answer began
    │   ├── ModelBusyError          too many model calls wait already
    │   ├── UpstreamTimeoutError    no answer in time
    │   ├── UpstreamRefusedError    it answered with an error status
    │   ├── UpstreamMalformedError  it answered something that is not the protocol
    │   ├── ToolLoopError           after a compaction it repeated the same tool call without end
    │   └── CodexError              the Codex app-server did not do what was asked
    │       ├── CodexUnavailableError   it is not installed, or it does not start
    │       ├── CodexDiedError          it ended while it was at work
    │       │   └── CodexNotAskedError      it ended before it was asked
    │       ├── CodexTurnError          a turn in it failed
    │       └── CodexRefusedError       it answered with an error
    │           └── CodexOverloadedError    it has too much to do; the same may be asked again
    ├── EmbedderError               a text could not be embedded
    │   ├── EmbedderPausedError     the embedder failed a moment ago and is not asked again yet
    │   └── TextRefusedError        the embedder works, but not on this text
    ├── MemoryPathError             a path is outside the memory, or not a memory file
    ├── UndoRefusedError            a change of MEMORY.md cannot be taken back
    ├── ImportFileError             a file to import is not in a known format
    ├── CostNotAgreedError          something would cost money, and nobody said yes
    ├── SweepFailedError            a sweep of dreaming that was asked for failed
    ├── ServerRefusedError          a running server did not do what a command asked of it
    ├── ListenError                 the server's address cannot be taken
    ├── JobError                    a job does not go on
    │   ├── JobDeferredError        not now: a budget is used up, or a server asked for a pause
    │   ├── JobPutBackError         it gave way to somebody who waits
    │   ├── JobHopelessError        trying again would not help
    │   └── AnswerRefusedError      twice a model answered not what it was asked for
    │       └── EpisodeSpentError   its episode has had all its calls: it is not asked at all
    ├── PluginError                 a plugin did what it may not do
    │   └── PluginBusyError         it has not ended its earlier calls
    ├── EngineError                 a context engine of others did not do what it was asked
    │   └── EngineQuarantinedError  it raised, was late or answered what it may not: it is not asked again
    └── TurnEndedError              the turn ended without an answer
        ├── TurnCancelledError      it was stopped before it finished
        ├── TurnDroppedError        it gave way to newer messages
        ├── TurnExpiredError        its deadline passed before it could begin
        └── RecordedFailureError    it failed earlier; this is what is on record of it

The message says what happened and what to do about it. Errors are raised, not logged and swallowed; the broad
catches live at three named borders: the HTTP response, a background loop, the CLI.
"""

from __future__ import annotations


class ReverieError(Exception):
    """Something Reverie was asked to do could not be done."""


class ConfigError(ReverieError):
    """A setting is wrong."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key} = {value!r} is not valid: {allowed}")
        self.key = key
        self.value = value
        self.allowed = allowed


class HomeError(ReverieError):
    """The home directory cannot be used."""


class HomeReadOnlyError(HomeError):
    """The home directory cannot be written."""


class HomeInUseError(HomeError):
    """Another Reverie process owns this home."""


class StorageError(ReverieError):
    """A database could not do what was asked."""


class DatabaseCorruptError(StorageError):
    """A database file is damaged. Nothing was overwritten."""


class DatabaseTooNewError(StorageError):
    """A database file was written by a newer Reverie. Nothing was overwritten."""


class StorageFullError(StorageError):
    """The disk is full. The change was rolled back."""


class StorageClosedError(StorageError):
    """The database was closed while the call waited."""


class OriginsFullError(StorageError):
    """No more can be known of whose words stand in an agent's notes, so that no program may write any."""

    def __init__(self, agent: str, pieces_max: int) -> None:
        super().__init__(
            f"{pieces_max:,} pieces of notes that programs wrote are known of the agent {agent!r}, and no more can be: "
            "nothing was written, because it would count as its owner's words. Write it yourself (`reverie remember`)."
        )


class RequestError(ReverieError):
    """What the caller sent cannot be served.

    `param` names the offending field, `code` is OpenAI's machine-readable code where it has one, `status` the
    HTTP status the gateway answers with.
    """

    status = 400
    type = "invalid_request_error"

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        if status is not None:
            self.status = status


class UnknownModelError(RequestError):
    """No such model or agent."""

    status = 404


class UnknownSessionError(RequestError):
    """No such session."""

    status = 404

    def __init__(self, message: str) -> None:
        super().__init__(message, code="session_not_found")


class ContextTooLongError(RequestError):
    """The new message alone exceeds the model's context window."""


class NothingToCompactError(RequestError):
    """There is nothing before the newest turn of the conversation that a summary could stand for."""

    status = 409
    type = "conflict_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="nothing_to_compact")


class RebuildRunsError(RequestError):
    """The index is being rebuilt, and what is asked for must not come in between."""

    status = 409
    type = "conflict_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="rebuild_runs")


class DreamingBlockedError(RequestError):
    """Dreaming was asked for, and something keeps it from beginning; the message says what."""

    status = 409
    type = "conflict_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="dreaming_blocked")


class EngineUnsupportedError(RequestError):
    """The context engine needs something that the runtime of its agent does not have: nothing was begun."""

    status = 501
    type = "api_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="context_engine_unsupported")


class NoThreadError(RequestError):
    """The session has no native thread that may be replaced."""

    status = 409
    type = "conflict_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="no_thread")


class UnknownLearnedError(RequestError):
    """Nothing of that id was learned, and no job has that key."""

    status = 404

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, param=param, code="learned_not_found")


class LearnedStateError(RequestError):
    """What was learned, or a job, is in no state for what is asked. Nothing was changed."""

    status = 409
    type = "conflict_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="learned_state")


class UnknownFeedbackTargetError(RequestError):
    """There is nothing of that kind and id that feedback could be about. Nothing was written.

    `param` is the field that named it.
    """

    status = 404

    def __init__(self, kind: str, target_id: str, param: str) -> None:
        super().__init__(
            f"there is no {kind} {target_id!r} to give feedback on", param=param, code="feedback_target_not_found"
        )


class QueueFullError(RequestError):
    """Too many turns wait in this session."""

    status = 429
    type = "rate_limit_error"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, code="queue_full")
        self.retry_after_s = retry_after_s


class SessionBusyError(RequestError):
    """The session is busy and the caller asked not to wait. Nothing was accepted."""

    status = 409
    type = "conflict_error"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, code="session_busy")
        self.retry_after_s = retry_after_s


class MessageKeyReusedError(RequestError):
    """The client's key for a message already stands for another one. Nothing was accepted."""

    status = 422

    def __init__(self, message: str) -> None:
        super().__init__(message, code="idempotency_key_reused")


class UpstreamError(ReverieError):
    """The model did not answer as it should.

    `status` is the HTTP status the gateway answers with, `type` the OpenAI error type.
    """

    status = 502
    type = "api_error"
    code: str | None = None


class UpstreamUnreachableError(UpstreamError):
    """No connection to the model's server."""

    code = "upstream_unreachable"


class UpstreamClosedError(UpstreamUnreachableError):
    """The model's server closed the connection before it answered."""


class ModelBusyError(UpstreamError):
    """Too many model calls wait for a place already; this one was not made."""

    status = 503
    code = "model_busy"


class UpstreamTimeoutError(UpstreamError):
    """The model's server did not answer in time."""

    status = 504
    code = "upstream_timeout"


class UpstreamRefusedError(UpstreamError):
    """The model's server answered with an error status."""

    def __init__(
        self, message: str, *, upstream_status: int, status: int, kind: str, code: str | None, retry_after: str | None
    ) -> None:
        super().__init__(message)
        self.upstream_status = upstream_status
        self.status = status
        self.type = kind
        self.code = code
        self.retry_after = retry_after


class UpstreamMalformedError(UpstreamError):
    """The model's server answered something that is not the chat-completions protocol."""

    code = "upstream_malformed"


class ToolLoopError(UpstreamError):
    """After a compaction the model repeated one tool call, with the same result each time."""

    code = "compaction_loop_persisted"


class CodexError(UpstreamError):
    """The Codex app-server did not do what was asked."""

    code = "codex_error"


class CodexUnavailableError(CodexError):
    """The Codex app-server is not installed, does not start, or has died too often of late."""

    status = 503
    code = "codex_unavailable"


class CodexDiedError(CodexError):
    """The Codex app-server ended while it was at work. What it had been told may or may not have been done."""

    code = "codex_died"


class CodexNotAskedError(CodexDiedError):
    """The Codex app-server ended before it was asked. Nothing was done; the same may be asked of another."""


class CodexTurnError(CodexError):
    """A turn in Codex failed. `kind` is its own word for why."""

    code = "codex_turn_failed"

    def __init__(self, message: str, *, kind: str, status: int = 502) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status


class CodexRefusedError(CodexError):
    """The Codex app-server answered with an error. `rpc_code` is its number."""

    def __init__(self, message: str, *, rpc_code: int) -> None:
        super().__init__(message)
        self.rpc_code = rpc_code


class CodexOverloadedError(CodexRefusedError):
    """The Codex app-server has too much to do. Nothing was done; the same may be asked again."""

    status = 503
    code = "codex_overloaded"


class EmbedderError(ReverieError):
    """A text could not be embedded. Search goes on with full text alone.

    `lasting`: only a person can end it, for example by paying, so it is asked again rarely. `retry_after_s` is the
    wait the server asked for. `over_text`: the server failed while it worked, which a text may have caused.
    """

    def __init__(
        self, message: str, *, lasting: bool = False, retry_after_s: float | None = None, over_text: bool = False
    ) -> None:
        super().__init__(message)
        self.lasting = lasting
        self.retry_after_s = retry_after_s
        self.over_text = over_text


class EmbedderPausedError(EmbedderError):
    """The embedder failed a moment ago and is not asked again yet; the message says why and when it will be."""


class TextRefusedError(EmbedderError):
    """One of the texts cannot be embedded, now or later, while others can."""


class MemoryPathError(ReverieError):
    """A path is outside the memory, or is not a memory file."""


class UndoRefusedError(ReverieError):
    """A change of MEMORY.md cannot be taken back: there is none, or it was never made, or is undone already."""


class ImportFileError(ReverieError):
    """A file to import is not in a known format."""


class CostNotAgreedError(ReverieError):
    """Something would cost money, and nobody said yes."""


class SweepFailedError(ReverieError):
    """A sweep of dreaming that was asked for failed, or stopped halfway; its record says why."""


class ServerRefusedError(ReverieError):
    """A running server did not do what a command asked of it."""


class ListenError(ReverieError):
    """The server's address cannot be taken, for example because the port is in use."""


class JobError(ReverieError):
    """A job does not go on."""


class JobDeferredError(JobError):
    """A job cannot go on before `until_ms`; nothing failed. Nor can any other of its kind before `all_until_ms`."""

    def __init__(self, until_ms: int, reason: str, *, all_until_ms: int | None = None) -> None:
        super().__init__(reason)
        self.until_ms = until_ms
        self.reason = reason
        self.all_until_ms = all_until_ms


class JobPutBackError(JobError):
    """A job gave way to somebody who waits, or has read what was forgotten since: it begins anew; nothing failed."""


class JobHopelessError(JobError):
    """A job that would fail however often it was tried."""


class AnswerRefusedError(JobError):
    """A model answered twice not what it was asked for: the same question is not asked again."""

    def __init__(self, prompt_id: str, wrong: str) -> None:
        super().__init__(f"the model's answers to {prompt_id} could not be used: {wrong}")
        self.prompt_id = prompt_id
        self.wrong = wrong


class EpisodeSpentError(AnswerRefusedError):
    """An episode has had as many calls as it may have: work does without an answer, as without a usable one."""


class PluginError(ReverieError):
    """A plugin did what it may not do. Plugins may raise it, too, when they cannot work as they are set up."""


class PluginBusyError(PluginError):
    """A plugin has not ended its earlier calls; this one was not made."""


class EngineError(ReverieError):
    """A context engine did not do what it was asked; the conversation goes on with the built-in one."""


class EngineQuarantinedError(EngineError):
    """A context engine raised, was late, or answered what it may not: this process does not ask it again."""


class TurnEndedError(ReverieError):
    """The turn ended without an answer. `status`, `type` and `code` are what a caller is told, in OpenAI's terms."""

    status = 503
    type = "api_error"
    code: str | None = None


class TurnCancelledError(TurnEndedError):
    """The turn was stopped before it finished."""

    code = "turn_cancelled"


class TurnDroppedError(TurnEndedError):
    """The turn gave way to newer messages: its session's queue was full."""

    status = 429
    type = "rate_limit_error"
    code = "turn_dropped"


class TurnExpiredError(TurnEndedError):
    """The turn's deadline passed before it could begin."""

    status = 504
    code = "turn_expired"


class RecordedFailureError(TurnEndedError):
    """A turn that failed earlier, as its record has it: whoever asks again is told the same."""

    def __init__(self, message: str, *, status: int, kind: str, code: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.type = kind
        self.code = code
