# SPDX-License-Identifier: MIT
"""The declarations of one trace: what applications register, once each, as metadata text."""

from __future__ import annotations

import errno
import os
import uuid

from sessiond.registry import Session
from ustconsumer.ctf.metalog import MetadataLogWriter
from ustconsumer.ctf.types import EnumEntry, Field
from ustconsumer.errors import UstConsumerError
from ustconsumer.protocol.application import EventRequest

__all__ = ["DeclarationRefusedError", "TraceMetadata"]

#: Bounds of one trace; far above what programs have, far below what hurts.
_MAX_TEXT = 64 << 20
_MAX_EVENTS = 1 << 17
_MAX_ENUMERATIONS = 1 << 16

Steps = list[tuple[int, int]]


class DeclarationRefusedError(UstConsumerError):
    """A declaration that the trace cannot have.

    Parameters
    ----------
    message : str
    code : int
        The errno the application is answered, positive.
    """

    def __init__(self, message: str, code: int = errno.EINVAL) -> None:
        super().__init__(message)
        self.errno = code


class _StreamClass:
    """A channel's declarations."""

    def __init__(self) -> None:
        #: None until the first application has asked
        self.contexts: tuple[Field, ...] | None = None
        self.context_steps: Steps = []
        self.event_ids: dict[tuple[str, str, tuple[Field, ...]], int] = {}
        self.event_steps: dict[int, Steps] = {}


class TraceMetadata:
    """Metadata of the applications of one uid in one session.

    Every application of the uid registers its own events: equal ones have one id and
    one declaration. An odd or hostile definition is refused and leaves no trace.
    """

    def __init__(self, session: Session, uid: int, trace_uuid: uuid.UUID, tracer: str) -> None:
        fd = os.memfd_create("ust-metadata", os.MFD_CLOEXEC)
        try:
            # Born 0777: a reader of another uid could reopen its descriptor for writing.
            os.fchmod(fd, 0o600)
            self._log = MetadataLogWriter(fd)
        except BaseException:
            os.close(fd)
            raise
        self._classes: dict[int, _StreamClass] = {}
        self._enumerations: dict[tuple[str, tuple[EnumEntry, ...]], int] = {}
        self._entries: dict[int, tuple[EnumEntry, ...]] = {}

    def event(self, channel: int, request: EventRequest) -> int:
        """Return the id of an event in a channel, declared now if it is new."""
        known = self._class(channel)
        key = request.name, request.signature, request.fields
        number = known.event_ids.get(key)
        if number is not None:
            return number
        number = len(known.event_ids)
        known.event_ids[key] = number
        return number

    def stream_class(self, channel: int, contexts: tuple[Field, ...]) -> None:
        """Declare a channel with its contexts; later applications must have the same."""
        known = self._class(channel)
        if known.contexts is None:
            known.contexts = contexts
        elif known.contexts != contexts:
            raise DeclarationRefusedError("its contexts differ from those of earlier programs")

    def enumeration(self, name: str, entries: tuple[EnumEntry, ...]) -> int:
        """Return the id of an enumeration; it is written where a field uses it."""
        return self._enumerations.setdefault((name, entries), len(self._enumerations))

    def context_steps(self) -> dict[int, Steps]:
        return {number: known.context_steps for number, known in self._classes.items()}

    def event_steps(self) -> dict[int, dict[int, Steps]]:
        return {number: dict(known.event_steps) for number, known in self._classes.items()}

    def reopen_read_only(self) -> int:
        """Return a descriptor for a reader, the caller's to close."""
        return self._log.reopen_read_only()

    def close(self) -> None:
        self._log.close()

    def _class(self, channel: int) -> _StreamClass:
        return self._classes.setdefault(channel, _StreamClass())
