# SPDX-License-Identifier: MIT
"""A traced program that is stopped in the middle of its registration or set-up.

``python -m helpers.halting RUNDIR WHERE`` stops itself (SIGSTOP) once, WHERE being one of
`PLACES`; continued, it goes on as if nothing had been. It ends with its standard input.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from helpers.fakeapp import FakeApp

__all__ = ["PLACES"]

#: When a command has arrived and is not answered; "stream": between a channel and its
#: streams; "request": half a request is sent, whose answer the program waits for.
PLACES = ("version", "session", "channel", "stream", "event", "enable", "request")
_NUMBERS = {
    "version": 0x41,
    "session": 0x40,
    "channel": 0x51,
    "stream": 0x60,
    "event": 0x61,
    "enable": 0x80,
}


class _Halting(FakeApp):
    def __init__(self, rundir: Path, where: str) -> None:
        self._where = where
        super().__init__(rundir, 9, where.encode())

    def _halt(self) -> None:
        self._where = ""
        os.kill(os.getpid(), signal.SIGSTOP)

    def _obey(self, handle: int, number: int, payload: bytes) -> tuple[int, bytes]:
        if number == _NUMBERS.get(self._where):
            self._halt()
        return super()._obey(handle, number, payload)

    def _register(self, session: int) -> None:
        if self._where == "request":
            self._sockets[1] = cast(socket.socket, _Halved(self._sockets[1], self._halt))
        super()._register(session)


class _Halved:
    """A socket whose first message takes a break in its middle."""

    def __init__(self, sock: socket.socket, halt: Callable[[], None]) -> None:
        self._socket = sock
        self._halt: Callable[[], None] | None = halt

    def sendall(self, message: bytes) -> None:
        half = len(message) // 2
        self._socket.sendall(message[:half])
        if self._halt is not None:
            halt, self._halt = self._halt, None
            halt()
        self._socket.sendall(message[half:])

    def __getattr__(self, name: str) -> object:
        return getattr(self._socket, name)


if __name__ == "__main__":
    program = _Halting(Path(sys.argv[1]), sys.argv[2])
    sys.stdin.read()
    program.close()
