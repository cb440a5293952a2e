"""The home itself: who has it, who may read it, is there room, can its files be watched, does the model answer."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.config import PRIVATE
from reverie.doctor.finding import Finding, counted, size_words
from reverie.dreaming.openclaw_lock import is_alive
from reverie.memory.documents import is_ignored_folder
from reverie.memory.generation_files import ROOM_FACTOR, size_of

if TYPE_CHECKING:
    from reverie.config import Config
    from reverie.doctor.patient import Patient

SERVER_FILE = "server.json"
SERVER_FILE_BYTES_MAX = 4096
FREE_BYTES_MIN = 64 * 1024 * 1024
FOLDERS_COUNTED_MAX = 1_000_000
INOTIFY = Path("/proc/sys/fs/inotify/max_user_watches")


async def check_home(patient: Patient) -> list[Finding]:
    """Everything about the home that is not in a database."""
    return [
        config_finding(patient.config_problem),
        *await asyncio.to_thread(_owner, patient),
        *await asyncio.to_thread(_permissions, patient),
        await asyncio.to_thread(_room, patient),
        *await asyncio.to_thread(_watches, patient),
        *upstream_findings(patient.surroundings.upstream_url, patient.surroundings.upstream_problem),
    ]


def config_finding(problem: str) -> Finding:
    """Whether the settings can be used."""
    if problem:
        remedy = "correct it in config.toml or the environment; what depends on settings was not examined"
        return Finding("error", "home.config", "the configuration is not valid", problem, remedy)
    return Finding("ok", "home.config", "the configuration is valid")


def upstream_findings(url: str, problem: str) -> list[Finding]:
    """Whether the model's server answers."""
    if not url:
        return []
    if problem:
        return [
            Finding(
                "warning",
                "home.upstream",
                f"the model's server {url} does not answer",
                problem,
                "start it, or correct upstream.base_url; until then a turn fails with the cause",
            )
        ]
    return [Finding("ok", "home.upstream", f"the model's server {url} answers")]


def announced_process(home: Path) -> int | None:
    """The process that a server's announcement names; 0 when it says nothing sensible, None when there is none."""
    try:
        with (home / SERVER_FILE).open(encoding="utf-8") as file:
            return int(json.loads(file.read(SERVER_FILE_BYTES_MAX))["pid"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        return 0


def server_finding(announced: int | None, held_by: int | None, url: str, *, alive: bool) -> Finding:
    """What the lock and a server's announcement come to together."""
    if url:
        return Finding("ok", "home.server", f"a server runs at {url} (process {announced})")
    if held_by is not None:
        who = f"process {held_by}" if held_by else "a process whose number is not known"
        if announced is None:
            return Finding("ok", "home.server", f"{who} has the home; no server announces itself")
        return Finding(
            "warning",
            "home.server",
            f"the server does not answer; {who} has the home",
            "it is starting, stopping or stuck",
            "look again in a moment; its log says what it does",
        )
    if announced is None:
        return Finding("ok", "home.server", "no process has the home")
    cause = "another process has its number now" if alive else "it was killed, or the machine was switched off"
    return Finding(
        "note",
        "home.server",
        f"{SERVER_FILE} names a server that does not run",
        cause,
        "--fix removes the file; a start replaces it",
        fixable=True,
    )


def permission_finding(mode: int) -> Finding:
    """Whether others may look into the home."""
    if mode & 0o077:
        return Finding(
            "warning",
            "home.permissions",
            f"others may look into the home (mode {mode:04o})",
            "it was made with a wide umask, or changed",
            f"--fix makes it {PRIVATE:04o}",
            fixable=True,
        )
    return Finding("ok", "home.permissions", f"the home is private (mode {mode:04o})")


def room_finding(free: int, index_bytes: int) -> Finding:
    """Whether there is room for a rebuild, and for anything at all."""
    needed = int(ROOM_FACTOR * index_bytes)
    if free < FREE_BYTES_MIN:
        return Finding(
            "error",
            "home.room",
            f"only {size_words(free)} are free",
            "the disk is nearly full",
            "free some space: turns are refused when nothing can be written",
        )
    if free < needed:
        return Finding(
            "warning",
            "home.room",
            f"{size_words(free)} are free, a rebuild of the index needs {size_words(needed)}",
            "the disk is too full for a second index",
            "free some space before a rebuild",
        )
    return Finding("ok", "home.room", f"{size_words(free)} are free")


def watch_finding(folders: int, watches: int) -> Finding:
    """Whether the system lets all folders of the workspaces be watched."""
    if folders <= watches:
        return Finding("ok", "home.watches", f"{counted(folders, 'folder')} to watch, the system allows {watches:,}")
    return Finding(
        "warning",
        "home.watches",
        f"{counted(folders, 'folder')} to watch, the system allows {watches:,}",
        "the system's limit of inotify watches is low",
        "raise it: `sysctl fs.inotify.max_user_watches=524288`",
    )


def secret_files(config: Config | None) -> dict[str, Path]:
    """The files that hold secrets, by the setting that names them."""
    if config is None:
        return {}
    named = {"gateway.token_file": config.gateway.token_file, "upstream.api_key_file": config.upstream.api_key_file}
    return {key: path.expanduser() for key, path in named.items() if path is not None}


# -- on a worker thread ------------------------------------------------------------------------------------------------


def _owner(patient: Patient) -> list[Finding]:
    announced = announced_process(patient.home.path)
    alive = announced is not None and is_alive(announced)
    return [server_finding(announced, patient.held_by, patient.surroundings.server_url, alive=alive)]


def _permissions(patient: Patient) -> list[Finding]:
    if os.name == "nt":  # it has no such modes
        return []
    findings = [permission_finding(stat.S_IMODE(patient.home.path.stat().st_mode))]
    for key, path in secret_files(patient.config).items():
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            findings.append(
                Finding(
                    "error",
                    "home.secret_missing",
                    f"{key} names {path}, which cannot be read",
                    error.strerror or str(error),
                    "write the secret there, or correct the setting",
                )
            )
            continue
        if mode & 0o007:
            findings.append(
                Finding(
                    "warning",
                    "home.secret",
                    f"{path} ({key}) may be read by everyone (mode {mode:04o})",
                    "it was made with a wide umask",
                    f"chmod 600 {path}",
                )
            )
    return findings


def _room(patient: Patient) -> Finding:
    return room_finding(shutil.disk_usage(patient.home.path).free, sum(size_of(patient.live).values()))


def _watches(patient: Patient) -> list[Finding]:
    if patient.config is None or not patient.config.memory.watch or sys.platform != "linux":
        return []
    try:
        watches = int(INOTIFY.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return []
    return [watch_finding(sum(_folders(path) for path in patient.workspaces().values()), watches)]


def _folders(workspace: Path) -> int:
    count = 0
    for _, below, _ in os.walk(workspace):
        below[:] = [name for name in below if not is_ignored_folder(name)]
        count += 1
        if count >= FOLDERS_COUNTED_MAX:
            break
    return count


def make_private(patient: Patient) -> None:
    """Let nobody else look into the home. Blocks."""
    if os.name != "nt":
        patient.home.path.chmod(PRIVATE)


def forget_server(patient: Patient) -> None:
    """Remove the announcement of a server that does not run. Blocks; only with the home alone."""
    (patient.home.path / SERVER_FILE).unlink(missing_ok=True)
