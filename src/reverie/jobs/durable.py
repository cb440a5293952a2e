"""The one door to DBOS: workflows that outlive their process. Nothing else imports it.

A workflow is one run of a job and knows its key and number alone; what the job is, and what becomes of it, stands in
state.db. Its id begins with the instant at which the job was asked for, because a queue on SQLite is in order within a
second only by the ids of its workflows.

Every function blocks, and is called on a worker thread: on an event loop DBOS would take over the loop's own threads.
Importing this module takes a good part of a second, so that it is imported when the first job is due.

DBOS is one to a process. A second home in one process gets it when the first one has given it back.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import apsw
from dbos import DBOS, SetWorkflowID
from dbos import error as dbos_error
from sqlalchemy.exc import SQLAlchemyError

from reverie.clock import iso_instant
from reverie.errors import StorageError
from reverie.jobs.decisions import RUNS_MAX
from reverie.storage.waiting import BUSY_TIMEOUT_MS, enter_wal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from dbos import DBOSConfig

    from reverie.jobs.request import Lane

    Performer = Callable[[str, int], None]

APPLICATION_VERSION = "jobs-1"
"""Fixed: DBOS would strand what waits whenever the code changes. No two homes of one database may have the same."""
QUEUED: tuple[Lane, ...] = ("background", "idle")
"""Interactive jobs are started at once, without a queue."""
QUEUE_POLL_S = 0.5
LISTENER_S = 0.1
"""Nobody listens to what this would tell; it is how long `destroy` waits for it."""
OUTCOME_GRACE_S = 0.1
"""DBOS writes down that a workflow has ended just after it has."""
UNFINISHED = ("PENDING", "ENQUEUED", "DELAYED")
FINISHED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_FAILURES = (SQLAlchemyError, dbos_error.DBOSException, OSError, apsw.Error)

_engine_lock = threading.Lock()
_at_work: list[Performer] = []
"""What does a run, while DBOS is launched; it returns when the run has ended."""
_log = logging.getLogger("dbos")
_log.addHandler(logging.NullHandler())  # else DBOS adds one of its own that writes to standard error
_log.propagate = True


class DurableRuns:
    """DBOS, launched. Build it with `launch`, end it with `destroy`.

    `home` is part of the names of the queues: homes may share a PostgreSQL, and each takes its own runs alone.
    """

    def __init__(self, home: str) -> None:
        self._home = home
        self._queues: dict[Lane, str] = {lane: f"{home}-{lane}" for lane in QUEUED}

    @classmethod
    def launch(cls, location: Path | str, executor: str, performer: Performer) -> DurableRuns | None:
        """Launch DBOS on a file, or on the PostgreSQL of a URL. Runs that the last process left go on at once.

        None while another part of this process has DBOS.

        Raises:
            StorageError: its database cannot be used.
        """
        if not _engine_lock.acquire(blocking=False):
            return None
        runs, launched = cls(home_of(executor)), False
        _at_work.append(performer)
        try:
            DBOS(config=_config(location, executor))
            DBOS.launch()
            runs.register_queues()
            launched = True
        except _FAILURES as error:
            raise StorageError(f"the job engine cannot use its database ({type(error).__name__}).") from error
        finally:
            if not launched:
                runs.destroy()
        return runs

    def register_queues(self) -> None:
        """Have the queues served, each a bounded number of runs at a time. Part of `launch`."""
        for queue in self._queues.values():
            DBOS.register_queue(queue, worker_concurrency=RUNS_MAX, polling_interval_sec=QUEUE_POLL_S)

    def start(self, workflow_id: str, lane: Lane, key: str, run: int) -> bool:
        """Have a run begin, at once or by a queue. The same id is the same run, however often it is started.

        False when it came to its end long ago, so that nothing will be done: state.db is older than the engine's
        database, for example because it was restored.

        Raises:
            StorageError: it could not be written down.
        """
        queue = self._queues.get(lane)
        try:
            known = DBOS.get_workflow_status(workflow_id)
            if known is not None and known.status in FINISHED:
                return False
            with SetWorkflowID(workflow_id):
                if queue is None:
                    DBOS.start_workflow(_perform, key, run)
                else:
                    DBOS.enqueue_workflow(queue, _perform, key, run)
        except _FAILURES as error:
            raise StorageError(f"the job engine could not take a job ({type(error).__name__}).") from error
        return True

    def unfinished(self, workflow_ids: Iterable[str]) -> set[str]:
        """Which of these DBOS knows and will bring to their end.

        Raises:
            StorageError: they could not be read.
        """
        ids = list(workflow_ids)
        if not ids:
            return set()
        try:
            known = DBOS.list_workflows(
                workflow_ids=ids, status=list(UNFINISHED), load_input=False, load_output=False
            )  # fmt: skip
        except _FAILURES as error:
            raise StorageError(f"the job engine could not be read ({type(error).__name__}).") from error
        return {each.workflow_id for each in known}

    def prune(self, before_ms: int, limit: int) -> int:
        """Drop workflows of this home that ended before an instant, at most so many; gives how many those were.

        Raises:
            StorageError: they could not be dropped.
        """
        try:
            ended = DBOS.list_workflows(
                status=list(FINISHED), completed_before=iso_instant(before_ms), limit=limit, load_input=False,
                load_output=False, application_name=self._home,
            )  # fmt: skip
            if ended:
                DBOS.delete_workflows([each.workflow_id for each in ended])
        except _FAILURES as error:
            raise StorageError(f"the job engine could not be tidied ({type(error).__name__}).") from error
        return len(ended)

    def destroy(self) -> None:
        """Stop DBOS and close its database. Runs that have not ended go on after the next launch."""
        time.sleep(OUTCOME_GRACE_S)
        DBOS.destroy()
        _at_work.clear()
        _engine_lock.release()


@DBOS.workflow(name="reverie_job")
def _perform(key: str, run: int) -> None:
    for performer in _at_work:
        performer(key, run)


def home_of(executor: str) -> str:
    """What the names of a home's processes have in common."""
    return executor.rpartition("-")[0]


def _config(location: Path | str, executor: str) -> DBOSConfig:
    """How DBOS is to run: alone, quietly, and under names that outlast an upgrade."""
    if isinstance(location, str):
        url = location
    else:
        _prepare(location)
        url = f"sqlite:///{location}"
    return {
        "name": home_of(executor),
        "system_database_url": url,
        "application_version": f"{home_of(executor)}-{APPLICATION_VERSION}",
        "executor_id": executor,
        "log_level": "WARNING",
        "enable_otlp": False,
        "notification_listener_polling_interval_sec": LISTENER_S,
    }


def _prepare(path: Path) -> None:
    """Make a file of SQLite with a write-ahead log, which DBOS does not ask for and which is ten times as fast."""
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        enter_wal(connection)
    finally:
        connection.close()
