# SPDX-License-Identifier: MIT
"""Agents of logging libraries in programs: who connects, and which loggers are passed on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from sessiond.registry import Rule, Session
from sessiond.sockets import Listener
from ustconsumer.errors import RemoteProtocolError, UstConsumerError
from ustconsumer.protocol import agent as codec
from ustconsumer.protocol.sessionverbs import LoggingProgram

__all__ = ["Agents", "listen"]

_log = logging.getLogger("sessiond")

_HOST = "127.0.0.1"
_REGISTER_SECONDS = 10.0
_COMMAND_SECONDS = 5.0
#: Programs with an agent, and connections that did not say what they are.
_MAX_AGENTS, _MAX_SILENT = 4096, 256
_CHUNK = 1 << 16
#: Bytes of an answer that were not read yet: of the longest list, and more.
_MAX_ANSWER = 1 << 23
_PORT_FILE = "agent.port"
_BYTE_ORDER = sys.byteorder


class _Agent:
    """One connection."""

    def __init__(self, sock: socket.socket, uid: int) -> None:
        self.sock = sock
        self.uid = uid
        self.pid = 0
        self.registered = False
        #: what it was told to pass on
        self.enabled: dict[tuple[str, int], Rule] = {}
        #: one command after the other
        self.lock = asyncio.Lock()
        self.received = bytearray()
        self.heard = asyncio.Event()
        self.ended = False

    def __str__(self) -> str:
        return f"logging agent of pid {self.pid}"


class Agents:
    """The agents of one registry.

    Parameters
    ----------
    sessions : callable
        Returns the sessions there are.
    joins : callable
        Whether programs of a uid belong into a session.
    admits : callable
        Whether programs of a uid may register at all.
    """

    def __init__(
        self,
        sessions: Callable[[], Iterable[Session]],
        joins: Callable[[int, Session], bool],
        admits: Callable[[int], bool],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sessions = sessions
        self._joins = joins
        self._admits = admits
        self._listener: Listener | None = None
        self._port_file: Path | None = None
        self._agents: dict[_Agent, asyncio.Task[None]] = {}

    def open(self, sock: socket.socket, rundir: Path) -> None:
        """Take connections, and have agents find us."""
        self._listener = Listener(self._loop, sock, "agents", self._connected)
        path = rundir / _PORT_FILE
        temporary = path.with_name(f".{_PORT_FILE}.{os.getpid()}")
        try:
            temporary.write_text(f"{sock.getsockname()[1]}\n", encoding="ascii")
            temporary.chmod(0o644)
            temporary.rename(path)
            self._port_file = path
        except OSError as error:
            _log.warning("%s: %s: programs do not find the port", path, error.strerror)

    def close(self) -> None:
        """Let go of everybody: they try again until the next registry is there."""
        if self._port_file is not None:
            with contextlib.suppress(OSError):
                self._port_file.unlink()
        if self._listener is not None:
            self._listener.close()
        for task in self._agents.values():
            task.cancel()

    async def align(self, session: Session) -> list[str]:
        """Have agents follow a change of a session; return those that did not, one line each."""
        concerned = [
            each for each in self._agents if each.registered and self._joins(each.uid, session)
        ]
        return [line for line in await asyncio.gather(*map(self._align, concerned)) if line]

    async def programs(self, sees: Callable[[int], bool]) -> list[LoggingProgram]:
        """Return the programs of uids that somebody sees, with their loggers."""
        asked = [each for each in self._agents if each.registered and sees(each.uid)]
        answers = await asyncio.gather(*map(self._list, asked))
        return [each for each in answers if each is not None]

    # -- one agent ---------------------------------------------------------------------

    def _connected(self, sock: socket.socket) -> None:
        silent = sum(not each.registered for each in self._agents)
        uid = _owner(sock)
        if uid is None or not self._admits(uid):
            _log.warning("an agent of uid %s is not answered", uid)
            sock.close()
        elif silent >= _MAX_SILENT or len(self._agents) >= _MAX_AGENTS:
            _log.warning("too many agents: one of uid %d is not answered", uid)
            sock.close()
        else:
            agent = _Agent(sock, uid)
            self._agents[agent] = self._loop.create_task(self._serve(agent))

    async def _serve(self, agent: _Agent) -> None:
        reading = self._loop.create_task(self._read(agent))
        try:
            async with asyncio.timeout(_REGISTER_SECONDS):
                raw = await self._receive(agent, codec.REGISTRATION_SIZE)
            agent.pid = codec.decode_registration(raw).pid
            _check_silent(agent)
            problem = await self._align(agent, first=True)
            if problem:
                return
            _log.info("%s of uid %d registers", agent, agent.uid)
            await reading
        except (OSError, UstConsumerError, EOFError) as error:
            _log.info("%s: %s", agent, error or "closed")
        finally:
            reading.cancel()
            with contextlib.suppress(BaseException):
                await reading
            del self._agents[agent]
            agent.sock.close()

    async def _read(self, agent: _Agent) -> None:
        """Take what an agent says; it says nothing unless it is asked."""
        try:
            while part := await self._loop.sock_recv(agent.sock, _CHUNK):
                if agent.registered and not agent.lock.locked():
                    raise RemoteProtocolError("it speaks without being asked")
                if len(agent.received) > _MAX_ANSWER:
                    raise RemoteProtocolError("it says more than it was asked for")
                agent.received += part
                agent.heard.set()
        finally:
            agent.ended = True
            agent.heard.set()

    async def _align(self, agent: _Agent, first: bool = False) -> str:
        """Send what changed; return what went wrong."""
        try:
            async with agent.lock, asyncio.timeout(_COMMAND_SECONDS):
                wanted = self._wanted(agent)
                for key, rule in tuple(agent.enabled.items()):
                    if key not in wanted:
                        await self._run(agent, codec.disable(rule.info))
                        del agent.enabled[key]
                for key, rule in wanted.items():
                    if key not in agent.enabled:
                        await self._run(agent, codec.enable(rule.info))
                        agent.enabled[key] = rule
                if first:
                    await self._loop.sock_sendall(agent.sock, codec.registration_done())
                    agent.registered = True
        except (OSError, UstConsumerError, EOFError) as error:
            # Where it stands nobody knows: it connects again, and is told from the beginning.
            self._drop(agent)
            return f"{agent}: {error or 'it is gone'}"
        return ""

    def _wanted(self, agent: _Agent) -> dict[tuple[str, int], Rule]:
        return {
            (session.id, rule.id): rule
            for session in self._sessions()
            if session.state in ("active", "paused") and self._joins(agent.uid, session)
            for channel in session.channels
            if channel.enabled
            for rule in channel.rules
            if rule.info.enabled and rule.info.domain == codec.PYTHON
        }

    async def _list(self, agent: _Agent) -> LoggingProgram | None:
        try:
            async with agent.lock, asyncio.timeout(_COMMAND_SECONDS):
                await self._run(agent, codec.list_loggers())
                size, count = codec.decode_names_head(await self._receive(agent, 8))
                names = codec.decode_names(await self._receive(agent, size), count)
        except (OSError, UstConsumerError, EOFError) as error:
            _log.info("%s: %s", agent, error or "closed")
            self._drop(agent)
            return None
        return LoggingProgram(
            pid=agent.pid, uid=agent.uid, name=_command_line(agent.pid), loggers=names
        )

    async def _run(self, agent: _Agent, command: bytes) -> None:
        _check_silent(agent)
        await self._loop.sock_sendall(agent.sock, command)
        codec.decode_status(await self._receive(agent, codec.STATUS_SIZE))

    async def _receive(self, agent: _Agent, size: int) -> bytes:
        while len(agent.received) < size:
            if agent.ended:
                raise EOFError
            agent.heard.clear()
            await agent.heard.wait()
        raw = bytes(agent.received[:size])
        del agent.received[:size]
        return raw

    def _drop(self, agent: _Agent) -> None:
        with contextlib.suppress(OSError):
            agent.sock.shutdown(socket.SHUT_RDWR)


def _check_silent(agent: _Agent) -> None:
    if agent.received:
        raise RemoteProtocolError("it speaks without being asked")


def listen(port: int | None) -> socket.socket | None:
    """Listen for agents where they look, or on a port; `None` if nobody can.

    Agents read the port from a file: where all of LTTng's are taken another one does.

    Parameters
    ----------
    port : int, optional
        0: do not listen.
    """
    if port == 0:
        return None
    for each in (*codec.PORTS, 0) if port is None else (port,):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((_HOST, each))
            sock.listen(_MAX_SILENT)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE or port is not None:
                _log.warning("no logging agents: port %d: %s", each, error.strerror)
                return None
        else:
            return sock
    return None


def _owner(sock: socket.socket) -> int | None:
    """Return whose process connected: TCP does not say, the kernel's table does."""
    try:
        theirs, ours = sock.getpeername(), sock.getsockname()
        wanted = f" {_address(theirs)} {_address(ours)} "
        with open("/proc/net/tcp", encoding="ascii") as table:
            for line in table:
                if wanted in line:
                    return int(line.split()[7])
    except (OSError, ValueError, IndexError):
        pass
    return None


def _address(address: tuple[str, int]) -> str:
    """Return an address as the kernel writes it: the four bytes as one number of its own."""
    number = int.from_bytes(socket.inet_aton(address[0]), _BYTE_ORDER)
    return f"{number:08X}:{address[1]:04X}"


def _command_line(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.split(b"\0", 1)[0].decode(errors="replace")
