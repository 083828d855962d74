# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import errno
import logging
import socket
from pathlib import Path

import pytest

from sessiond.sockets import Listener


class Exhausted(socket.socket):
    """A listening socket that finds no descriptor for its first connection, twice."""

    tries = 0

    def accept(self):  # type: ignore[no-untyped-def]
        self.tries += 1
        if self.tries <= 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_without_a_descriptor_the_connection_waits_and_the_loop_does_not_spin(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> tuple[int, bool]:
        loop = asyncio.get_running_loop()
        listening = Exhausted(socket.AF_UNIX)
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        listening.setblocking(False)
        accepted: asyncio.Future[socket.socket] = loop.create_future()
        listener = Listener(loop, listening, "guests", accepted.set_result)
        with socket.socket(socket.AF_UNIX) as guest:
            guest.connect(str(tmp_path / "s"))
            sock = await accepted
        blocking = sock.getblocking()
        sock.close()
        listener.close()
        listener.close()
        return listening.tries, blocking

    with caplog.at_level(logging.ERROR, "sessiond"):
        assert asyncio.run(scene()) == (3, False)
    assert [record.message for record in caplog.records] == [
        "cannot accept guests for now: [Errno 24] Too many open files"
    ]
