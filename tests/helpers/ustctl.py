# SPDX-License-Identifier: MIT
"""LTTng's control library as a peer: a channel it makes and drives on command.

The library lives in a small C program (``tests/property/ust_ctl_twin.c``) on the far
side of two pipes, with its streams in memfds that the test maps too.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import struct
import subprocess
from pathlib import Path
from types import TracebackType

from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["UstCtl", "compile_ust_ctl", "possible_cpus"]

_SOURCE = Path(__file__).resolve().parent.parent / "property" / "ust_ctl_twin.c"


def possible_cpus() -> int:
    """Return how many streams a channel has: the highest possible CPU plus one."""
    text = Path("/sys/devices/system/cpu/possible").read_text()
    return int(text.strip().replace(",", "-").split("-")[-1]) + 1


def compile_ust_ctl(directory: Path) -> Path:
    """Compile the program in ``directory``; return its path."""
    program = directory / "ust_ctl_twin"
    command = ["gcc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-o", str(program)]
    # The control library needs symbols of liburcu that it does not name as a dependency.
    command += [str(_SOURCE), "-llttng-ust-ctl", "-llttng-ust-common"]
    command += ["-Wl,--no-as-needed", "-lurcu"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return program


class UstCtl:
    """A channel made by liblttng-ust-ctl. A context manager.

    Attributes
    ----------
    streams : list of mmap
        The memory of each stream, shared with the library.
    blob : bytes
        The channel object as an application gets it.
    """

    def __init__(
        self,
        program: Path,
        geometry: Geometry,
        *,
        now: int,
        channel_id: int,
        uuid: bytes,
        cpu: int = 0,
        header_type: int = 2,
        switch_timer_us: int = 0,
        read_timer_us: int = 0,
        blocking_timeout_us: int = 0,
    ):
        fds = [os.memfd_create(f"ust-ctl-{nr}") for nr in range(possible_cpus())]
        ours, theirs = socket.socketpair()
        numbers = [now, geometry.subbuf_size, geometry.num_subbuf, int(geometry.overwrite)]
        numbers += [switch_timer_us, read_timer_us, blocking_timeout_us, channel_id]
        command = [str(program), *map(str, numbers), uuid.hex(), str(cpu), str(header_type)]
        command += [str(theirs.fileno()), *map(str, fds)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[theirs.fileno(), *fds],
            env={"PATH": os.environ["PATH"]},
        )
        theirs.close()
        self.streams: list[mmap.mmap] = []
        try:
            with ours:
                self.blob = _receive_blob(ours)
            self.answer()
            self.streams = [mmap.mmap(fd, os.fstat(fd).st_size) for fd in fds]
        except BaseException:
            self.close()
            raise
        finally:
            for fd in fds:
                os.close(fd)

    def __enter__(self) -> UstCtl:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(self, now: int, command: str, *arguments: int) -> list[int]:
        """Run one command at clock ``now``; return the numbers of its answer."""
        self.start(now, command, *arguments)
        return self.answer()

    def start(self, now: int, command: str, *arguments: int) -> None:
        """Begin a command; `answer` waits for its end."""
        line = " ".join([str(now), command, *map(str, arguments)])
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def ended(self) -> bool:
        """Return whether the command begun by `start` has an answer."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def answer(self) -> list[int]:
        """Wait for the answer to a command."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the library's process ended: {self._process.wait()}"
        return [int(word) for word in line.split()]

    def close(self) -> None:
        """End the library's process; its memory stays as it is."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _receive_blob(source: socket.socket) -> bytes:
    """Read what a consumer sends a session daemon: length, type, channel object, fd."""
    with source.makefile("rb") as stream:
        length, _type = struct.unpack("=Qi", stream.read(12))
        blob = stream.read(length)
        stream.read(1)  # carries the wake-up descriptor, which we do not take
    return blob
