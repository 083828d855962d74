# SPDX-License-Identifier: MIT
"""A session daemon of a few lines: it registers programs and says what a test has it say."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
from pathlib import Path

from ustconsumer._native import atomics
from ustconsumer.protocol import application
from ustconsumer.protocol.application import Command, Registration, Reply

__all__ = ["FakeDaemon", "Registered", "exactly"]

#: Seconds after which the other side is taken for broken.
_LIMIT = 60


def exactly(sock: socket.socket, size: int) -> bytes:
    """Receive so many bytes; fewer at the end of the connection."""
    raw = bytearray()
    while len(raw) < size and (chunk := sock.recv(size - len(raw))):
        raw += chunk
    return bytes(raw)


class Registered:
    """A program that registered: both its sockets, and what it said on each."""

    def __init__(
        self, sockets: tuple[socket.socket, socket.socket], said: tuple[Registration, Registration]
    ) -> None:
        self.command, self.notify = sockets
        self.said = said

    def do(self, command: Command) -> Reply:
        """Send a command and return its last reply."""
        raw = b""
        for step in command.steps:
            if step.fds:
                socket.send_fds(self.command, [step.data], list(step.fds))
            else:
                self.command.sendall(step.data)
            if step.reply:
                raw = exactly(self.command, application.REPLY_SIZE)
        return application.parse_reply(raw, command)

    def done(self) -> None:
        """Let the program go on."""
        assert self.do(application.register_done()).ret_code == 0

    def gone(self) -> bool:
        """Wait for the next bytes of the program; True if there are none any more."""
        try:
            return self.command.recv(1) == b""
        except ConnectionResetError:
            return True  # it left without reading what we sent

    def close(self) -> None:
        """End the connection."""
        self.command.close()
        self.notify.close()


class FakeDaemon:
    """Listens in a run directory until the end of the block.

    Parameters
    ----------
    rundir : Path
    word : Path, optional
        A wait word to set while it listens.
    """

    def __init__(self, rundir: Path, word: Path | None = None) -> None:
        self._path = rundir / "lttng-ust-sock-8"
        self._word = word
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._accepted: list[socket.socket] = []
        self._halves: dict[int, tuple[socket.socket, Registration]] = {}

    def __enter__(self) -> FakeDaemon:
        self._path.parent.mkdir(exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        self._listening.bind(os.fspath(self._path))
        self._listening.listen(64)
        self._listening.settimeout(_LIMIT)
        self._store(1)
        return self

    def __exit__(self, *error: object) -> None:
        self._store(0)
        self._listening.close()
        self._path.unlink()
        for sock in self._accepted:
            sock.close()

    def _store(self, value: int) -> None:
        if self._word is None:
            return
        fd = os.open(self._word, os.O_RDWR | os.O_CREAT, 0o640)
        os.ftruncate(fd, 4096)
        with contextlib.closing(mmap.mmap(fd, 4096)) as memory:
            os.close(fd)
            atomics.store_u32(memory, 0, value)
            atomics.futex_wake(memory, 0, 0x7FFFFFFF)

    def accept(self) -> tuple[socket.socket, Registration]:
        """Return the next socket of a program and what it says first."""
        sock, _ = self._listening.accept()
        self._accepted.append(sock)
        sock.settimeout(_LIMIT)
        raw = exactly(sock, application.REGISTRATION_SIZE)
        return sock, application.parse_registration(raw)

    def register(self) -> Registered:
        """Return the next program whose registration is complete."""
        while True:
            sock, said = self.accept()
            # Several may register at the same time: a process is one program here.
            if said.pid not in self._halves:
                self._halves[said.pid] = sock, said
                continue
            command, first = self._halves.pop(said.pid)
            assert (first.socket_type, said.socket_type) == (0, 1)
            return Registered((command, sock), (first, said))

    def nobody(self, seconds: float) -> bool:
        """Tell whether nobody connects for a time."""
        self._listening.settimeout(seconds)
        try:
            self._accepted.append(self._listening.accept()[0])
        except TimeoutError:
            return True
        finally:
            self._listening.settimeout(_LIMIT)
        return False
