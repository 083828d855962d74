# SPDX-License-Identifier: MIT
"""The two tracing stacks behind one interface: ours and LTTng's."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from compare.cost import processes_named
from helpers.lttng import Lttng, lttng_sessiond
from helpers.rundir import Rundir, private_rundir
from helpers.users import ordinary_user

__all__ = ["Channel", "Stack", "discarded_events", "lttng", "ours", "trace_bytes"]

SUFFIX = ".zst"
#: Exit status of a verb that did its work and has something to say.
_WARNING = 4
_INDEX_HEADER = 16
_INDEX_ENTRY = struct.Struct(">9Q")


@dataclass(frozen=True)
class Channel:
    """Geometry of a channel."""

    subbuf_size: int
    num_subbuf: int

    def options(self) -> list[str]:
        return [f"--subbuf-size={self.subbuf_size}", f"--num-subbuf={self.num_subbuf}"]


class Stack(Protocol):
    """A running registry (session daemon) of one of the two."""

    name: str
    rundir: Rundir

    def verb(self, *arguments: str) -> str: ...
    def write_directly(self, session: str) -> None: ...
    def consumers(self) -> list[int]: ...
    def daemons(self) -> list[int]: ...


class _Ours:
    name = "ours"

    def __init__(self, rundir: Rundir, zstd: int = 0) -> None:
        self.rundir = rundir
        self._zstd = zstd

    def verb(self, *arguments: str) -> str:
        if arguments[0] == "create" and self._zstd:
            arguments = (*arguments, f"--zstd={self._zstd}")
        result = self.rundir.drtrace("--rundir", str(self.rundir.path), *arguments)
        if result.returncode == _WARNING:
            print(f"drtrace {' '.join(arguments)}: {result.stderr}", file=sys.stderr, flush=True)
        elif result.returncode:
            raise RuntimeError(f"drtrace {arguments}: {result.stdout}{result.stderr}")
        return str(result.stdout)

    def write_directly(self, session: str) -> None:
        self.verb("consume", "--direct", session)

    def consumers(self) -> list[int]:
        return processes_named("ust-consumerd", str(self.rundir.home))

    def daemons(self) -> list[int]:
        return processes_named("ltt-sessiond", str(self.rundir.home)) + self.consumers()


class _Lttng:
    name = "lttng"

    def __init__(self, lttng: Lttng) -> None:
        self._lttng = lttng
        self.rundir = lttng.rundir

    def verb(self, *arguments: str) -> str:
        verb, *rest = arguments
        domain = ["-u"] if verb in ("enable-channel", "enable-event", "add-context") else []
        return self._lttng(verb, *domain, *rest)

    def write_directly(self, session: str) -> None:
        """It cannot: the page cache is all it knows."""

    def consumers(self) -> list[int]:
        return processes_named("lttng-consumerd", str(self.rundir.home))

    def daemons(self) -> list[int]:
        home = str(self.rundir.home)
        return processes_named("lttng-sessiond", home) + self.consumers()


@contextlib.contextmanager
def ours(zstd: int = 0) -> Iterator[Stack]:
    """Start our registry as an ordinary user; its sessions compress on this level, if not 0."""
    with private_rundir(ordinary_user()) as rundir:
        log = rundir.home / "sessiond.log"
        with open(log, "wb") as file:
            process = rundir.start_python(
                "-m", "sessiond", "--rundir", str(rundir.path), stdout=file, stderr=file
            )
            _await(rundir.path / "drtrace.sock", process)
        yield _Ours(rundir, zstd)
        process.terminate()
        process.wait()


@contextlib.contextmanager
def lttng() -> Iterator[Stack]:
    """Start LTTng's session daemon as an ordinary user."""
    with lttng_sessiond() as client:
        yield _Lttng(client)


def trace_bytes(output: Path) -> tuple[int, int]:
    """Return the bytes of the data streams, and those of their files, maybe compressed."""
    plain = stored = 0
    for path in output.rglob("*"):
        if path.is_file() and ".idx" not in path.suffixes and path.stem != "metadata":
            plain += len(_content(path)) if path.suffix == SUFFIX else path.stat().st_size
            stored += path.stat().st_size
    return plain, stored


def discarded_events(output: Path) -> int:
    """Return the events discarded, from the last index entry of each stream."""
    total = 0
    for path in output.rglob("*.idx*"):
        raw = _content(path)
        if len(raw) > _INDEX_HEADER:
            total += _INDEX_ENTRY.unpack(raw[-_INDEX_ENTRY.size :])[5]
    return total


def _content(path: Path) -> bytes:
    if path.suffix != SUFFIX:
        return path.read_bytes()
    return subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout


def _await(path: Path, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        if time.monotonic() > deadline or process.poll() is not None:
            raise RuntimeError(f"our registry did not start: {path.parent.parent}/sessiond.log")
        time.sleep(0.01)
