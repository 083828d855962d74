# SPDX-License-Identifier: MIT
"""Processes that write without being registered: children of a bare fork.

Such a child goes on in the buffers it inherited, with the contexts its parent had. The
registry has no connection to it; what shows it is that it has the memory mapped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sessiond.recording import Recording
from sessiond.registry import Session
from sessiond.traces import Trace
from ustconsumer.mappers import File, file_of, writers_of_files
from ustconsumer.protocol.control import AppInfo

__all__ = ["unregistered"]

#: More forks after each other than anybody makes.
_MAX_ANCESTORS = 64


@dataclass(frozen=True)
class _Process:
    """What ``/proc`` says of a living process."""

    pid: int
    ppid: int
    group: int
    uid: int
    gid: int
    name: str


async def unregistered(
    sessions: Iterable[Session],
    recording_of: Callable[[Session], Recording],
    applications: Callable[[], Sequence[AppInfo]],
    seen: Callable[[Session], bool] = lambda session: True,
) -> list[AppInfo]:
    """Return a row for each process that has buffers of a session and is not registered.

    Parameters
    ----------
    applications : callable
        Returns the applications.
    seen : callable
        Whether whoever asks may know of a session.
    """
    traces: dict[File, Trace] = {}
    aside = {os.getpid()}
    for session in sessions:
        recording = recording_of(session)
        aside.update(each.peer.pid for each in recording.subscriptions)
        for trace in recording.traces.values():
            if not trace.closed:
                traces.update((file_of(stream.fd), trace) for stream in trace.streams)
    found = await asyncio.to_thread(writers_of_files, list(traces))
    # Now, not before: one that registered meanwhile is no stranger.
    registered = {app.pid: app for app in applications() if app.state != "refused"}
    writes: dict[int, dict[Trace, None]] = {}
    for file, pids in found.items():
        for pid in pids - aside - registered.keys():
            writes.setdefault(pid, {})[traces[file]] = None
    return [
        row
        for pid, its in sorted(writes.items())
        if (row := _row(pid, list(its), registered, seen)) is not None
    ]


def _row(
    pid: int,
    traces: Sequence[Trace],
    registered: dict[int, AppInfo],
    seen: Callable[[Session], bool],
) -> AppInfo | None:
    process = _look(pid)
    if process is None:
        return None  # it has ended
    parent = _living_parent(process, registered)
    if parent is not None:
        through = f"the registration of {parent.name!r} (pid {parent.pid})"
    else:
        through = _dead_parent(process, traces, registered)
    return AppInfo(
        pid=pid,
        ppid=process.ppid,
        uid=process.uid,
        gid=process.gid,
        name=process.name,
        abi=parent.abi if parent is not None else "-",
        bits=64,
        tracer=traces[0].owner.tracer,
        state="unregistered",
        sessions=sorted({trace.session.name for trace in traces if seen(trace.session)}),
        reason=f"writes through {through}: start it with liblttng-ust-fork.so",
    )


def _living_parent(process: _Process, registered: dict[int, AppInfo]) -> AppInfo | None:
    pid = process.ppid
    for _ in range(_MAX_ANCESTORS):
        if pid in registered:
            return registered[pid]
        ancestor = _look(pid) if pid > 1 else None
        if ancestor is None:
            return None
        pid = ancestor.ppid
    return None


def _dead_parent(process: _Process, traces: Sequence[Trace], registered: dict[int, AppInfo]) -> str:
    """Guess which process that is gone was the parent: its name and group stay the same."""
    gone = {
        pid: name
        for trace in traces
        for pid, name in trace.session.processes.items()
        if pid > 0 and pid not in registered
    }
    named = [pid for pid, name in gone.items() if name == process.name]
    if process.group in named:
        named = [process.group]
    if not named:
        return "the registration of a process that is gone"
    return f"the registration of {process.name!r} (pid {max(named)})"


def _look(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            status = os.fstat(file.fileno())
            text = file.read()
    except OSError:
        return None
    # The name is in parentheses, and may have some itself.
    begin, end = text.index(b"(") + 1, text.rindex(b")")
    fields = text[end + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return _Process(
        pid=pid,
        ppid=int(fields[1]),
        group=int(fields[2]),
        uid=status.st_uid,
        gid=status.st_gid,
        name=text[begin:end].decode(errors="replace"),
    )
