# SPDX-License-Identifier: MIT
"""Commands of one registry: whom they are for, and that each gets its answer.

Whatever a registry sends that makes no sense is answered with the error that
liblttng-ust gives, and changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from ustconsumer._native import emit
from ustconsumer.abi.application import CommandNumber
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol import tracer as protocol
from ustconsumer.tracer.handlers import HANDLERS, Answer, Request
from ustconsumer.tracer.made import Made
from ustconsumer.tracer.objects import MisuseError

if TYPE_CHECKING:
    from ustconsumer.protocol.tracer import Command
    from ustconsumer.tracer.process import Process
    from ustconsumer.tracer.registrar import Registrar

__all__ = ["Answer", "Dispatcher"]

#: A registry gives up on a program after 5 s without an answer.
_QUIESCENT_MS = 4000


class Dispatcher:
    """What one registry made in this process, by way of the commands of one connection.

    Parameters
    ----------
    process : Process
    registrar : Registrar
        Of the same registry.
    """

    def __init__(self, process: Process, registrar: Registrar):
        self.made = Made(process, registrar)
        self._process = process

    def check(self, command: Command) -> None:
        """Look at a command before anything is received that follows it.

        Raises
        ------
        RemoteProtocolError
            Of a handle that does not exist: the connection is of no use any more.
        """
        if self.made.handles.get(command.handle) is None:
            raise RemoteProtocolError(f"command {command.number:#x} of handle {command.handle}")

    def needs_lock(self, command: Command) -> bool:
        """Return whether a command takes the lock of the process.

        WAIT_QUIESCENT does not: it waits for threads that may want it.
        """
        return (command.handle, command.number) != (0, CommandNumber.WAIT_QUIESCENT)

    def execute(self, command: Command, data: bytes = b"", fds: list[int] | None = None) -> Answer:
        """Obey a command; the descriptors are ours from now on.

        Raises
        ------
        RemoteProtocolError
            What followed the command makes no sense.
        """
        descriptors = list(fds or ())
        try:
            if not self.needs_lock(command):
                return self._quiesce()
            with self._process.lock:
                return self._obey(command, data, descriptors)
        except MisuseError as misuse:
            return Answer(*protocol.error_codes(misuse.error))
        except MemoryError:
            return Answer(*protocol.error_codes(errno.ENOMEM))
        except OSError as error:
            return Answer(*protocol.error_codes(error.errno or errno.EIO))
        finally:
            # What was not taken. After an error too: nobody else would close them.
            for fd in descriptors:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def close(self) -> None:
        """Release everything that the registry made."""
        self.made.close()

    def _obey(self, command: Command, data: bytes, fds: list[int]) -> Answer:
        self.check(command)
        node = self.made.handles.get(command.handle)
        assert node is not None
        if command.number == CommandNumber.RELEASE:
            self.made.handles.release(command.handle)
            return Answer(0, 0)
        handler = HANDLERS.get((type(node), command.number))
        if handler is None:
            raise MisuseError(errno.EINVAL)
        result = handler(self.made, node, Request(command.values, data, fds))
        return result if isinstance(result, Answer) else Answer(0, result or 0)

    def _quiesce(self) -> Answer:
        if not emit.quiesce(_QUIESCENT_MS):
            raise MisuseError(errno.ETIMEDOUT)
        return Answer(0, 0)
