# SPDX-License-Identifier: MIT
"""Connections to a relay's listener in one process, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TypeVar

import uvloop

from ustconsumer.relay.serve import Policy, Server, serve
from ustconsumer.relay.wire import Wire

__all__ = ["LOOPS", "certificate", "listening", "run", "server_context"]

T = TypeVar("T")

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
#: Seconds for anything.
_PATIENCE = 60.0


def certificate(name: str) -> str:
    """Return the path of a test certificate, its key in the same file; valid for 100 years."""
    return str(Path(__file__).resolve().parent / "certificates" / f"{name}.pem")


def server_context(name: str = "relay", client_ca: str = "") -> ssl.SSLContext:
    """Return what a relay with this certificate has, and asks for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate(name))
    if client_ca:
        context.load_verify_locations(certificate(client_ca))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def run(loop: str, main: Coroutine[None, None, T]) -> T:
    """Run a test on a loop; an error that nobody took fails it."""
    unseen: list[object] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unseen.append(what))
        return await asyncio.wait_for(main, _PATIENCE)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        result = runner.run(watched())
    assert not unseen
    return result


@contextlib.asynccontextmanager
async def listening(
    handler: Callable[[Wire], Awaitable[None]], policy: Policy | None = None
) -> AsyncIterator[Server]:
    """Serve on a free port of 127.0.0.1 until the end of the block."""
    server = await serve("127.0.0.1", 0, handler, policy)
    try:
        yield server
    finally:
        server.close()
        await server.wait_closed()
