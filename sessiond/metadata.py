# SPDX-License-Identifier: MIT
"""The declarations of one trace: what applications register, once each, as metadata text."""

from __future__ import annotations

import errno
import os
import socket
import uuid
from collections.abc import Iterable

import msgspec

from sessiond.declarations import (
    DeclarationRefusedError,
    check_entries,
    check_event,
    check_fields,
)
from sessiond.owners import Owner, Process
from sessiond.registry import Session
from sessiond.shmpath import MetadataText
from ustconsumer.ctf.metadata import (
    ProcessDescription,
    TraceDescription,
    boot_id,
    clock_offset,
    event_block,
    stream_block,
    trace_header,
)
from ustconsumer.ctf.metalog import MetadataLogWriter
from ustconsumer.ctf.skip import Steps, steps
from ustconsumer.ctf.types import EnumEntry, Field
from ustconsumer.protocol.application import EventRequest

__all__ = ["TraceMetadata"]

#: Bounds of one trace; far above what programs have, far below what hurts.
_MAX_TEXT = 64 << 20
_MAX_EVENTS = 1 << 17
_MAX_ENUMERATIONS = 1 << 16


class _StreamClass:
    """A channel's declarations."""

    def __init__(self) -> None:
        #: None until the first application has asked
        self.contexts: tuple[Field, ...] | None = None
        self.context_steps: Steps = []
        self.event_ids: dict[tuple[str, str, tuple[Field, ...]], int] = {}
        self.event_steps: dict[int, Steps] = {}
        #: Declarations of events that wait for the one of the class.
        self.waiting: list[str] = []


class TraceMetadata:
    """Metadata of the applications that share buffers in one session.

    Every application of a uid registers its own events: equal ones have one id and
    one declaration. An odd or hostile definition is refused and leaves no trace.

    Parameters
    ----------
    text : MetadataText, optional
        Gets everything too, before whoever asked has an answer; owned.

    Raises
    ------
    OSError
        The text cannot be written.
    """

    def __init__(
        self,
        session: Session,
        owner: Owner,
        trace_uuid: uuid.UUID,
        text: MetadataText | None = None,
    ) -> None:
        self._text = text
        major, minor, patch = (int(part) for part in owner.tracer.split(".")[:3])
        process = owner.process
        self._described = TraceDescription(
            uuid=str(trace_uuid),
            tracer_major=major,
            tracer_minor=minor,
            buffering_id=owner.uid if process is None else process.pid,
            session=session.name,
            created=session.created.strftime("%Y%m%dT%H%M%S%z"),
            hostname=socket.gethostname(),
            clock_uuid=boot_id(),
            clock_offset=clock_offset(),
            process=None if process is None else _description(process, patch),
        )
        header = trace_header(self._described)
        fd = os.memfd_create("ust-metadata", os.MFD_CLOEXEC)
        try:
            # Born 0777: a reader of another uid could reopen its descriptor for writing.
            os.fchmod(fd, 0o600)
            self._log = MetadataLogWriter(fd)
            if text is not None:
                text.append(header)
            self._log.append(header)
        except BaseException:
            os.close(fd)
            if text is not None:
                text.close()
            raise
        self._classes: dict[int, _StreamClass] = {}
        self._enumerations: dict[tuple[str, tuple[EnumEntry, ...]], int] = {}
        self._entries: dict[int, tuple[EnumEntry, ...]] = {}
        #: length of what waits
        self._waiting = 0

    def event(self, channel: int, request: EventRequest) -> int:
        """Return the id of an event in a channel, declared now if it is new.

        Raises
        ------
        DeclarationRefusedError
            The trace cannot have it.
        """
        known = self._class(channel)
        key = request.name, request.signature, request.fields
        number = known.event_ids.get(key)
        if number is not None:
            return number
        number = len(known.event_ids)
        if number >= _MAX_EVENTS:
            raise DeclarationRefusedError(f"event {request.name!r}: too many", errno.ENOSPC)
        check_event(request, self._entries)
        text = event_block(
            channel,
            number,
            request.name,
            request.loglevel,
            request.fields,
            request.model_emf_uri,
            self._entries,
        )
        if known.contexts is None:
            # An application names its events before its channels, and writes after both.
            # Readers refuse an event without a class: what was appended must be readable
            # if we, or the application, come no further.
            self._check_room(text)
            known.waiting.append(text)
            self._waiting += len(text)
        else:
            self._append(text)
        known.event_ids[key] = number
        known.event_steps[number] = steps(request.fields)
        return number

    def stream_class(self, channel: int, contexts: tuple[Field, ...]) -> None:
        """Declare a channel with its contexts; later applications must have the same.

        Raises
        ------
        DeclarationRefusedError
            The contexts differ, or the trace cannot have them.
        """
        known = self._class(channel)
        if known.contexts is None:
            check_fields("contexts", contexts, self._entries)
            text = stream_block(channel, contexts, self._entries)
            self._check_room(text)
            waiting = "".join(known.waiting)
            self._publish(text + waiting)
            self._waiting -= len(waiting)
            known.waiting.clear()
            known.contexts = contexts
            known.context_steps = steps(contexts)
        elif known.contexts != contexts:
            raise DeclarationRefusedError(_difference(contexts, known.contexts))

    def complete(self, channels: Iterable[int]) -> None:
        """Declare the channels that no application came to ask for.

        Readers need the declaration of every stream, also of one without an event: the
        only application may have died between its buffers and its first request.
        """
        for channel in channels:
            if self._class(channel).contexts is None:
                try:
                    self.stream_class(channel, ())
                except DeclarationRefusedError:
                    # No room on the disk of the files: those who read on need it all the same.
                    self._log.append(stream_block(channel, (), self._entries))

    def enumeration(self, name: str, entries: tuple[EnumEntry, ...]) -> int:
        """Return the id of an enumeration; it is written where a field uses it.

        Raises
        ------
        DeclarationRefusedError
            The trace cannot have it.
        """
        number = self._enumerations.get((name, entries))
        if number is None:
            check_entries(name, entries)
            number = len(self._enumerations)
            if number >= _MAX_ENUMERATIONS:
                raise DeclarationRefusedError(f"enumeration {name!r}: too many", errno.ENOSPC)
            self._enumerations[name, entries] = number
            self._entries[number] = entries
        return number

    def regenerate(self) -> None:
        """Say anew how the trace's clock relates to the time of day, which may have been set.

        Raises
        ------
        OSError
            The text cannot be written.
        """
        declared = self._log.text()[len(trace_header(self._described)) :]
        described = msgspec.structs.replace(self._described, clock_offset=clock_offset())
        text = trace_header(described) + declared
        if self._text is not None:
            self._text.restart(text)
        self._log.restart(text)
        self._described = described

    def context_steps(self) -> dict[int, Steps]:
        """Return how to skip the contexts of an event, by stream class."""
        return {number: known.context_steps for number, known in self._classes.items()}

    def event_steps(self) -> dict[int, dict[int, Steps]]:
        """Return how to skip the fields of an event, by stream class and event id."""
        return {number: dict(known.event_steps) for number, known in self._classes.items()}

    def reopen_read_only(self) -> int:
        """Return a descriptor for a reader, the caller's to close."""
        return self._log.reopen_read_only()

    def close(self) -> None:
        """Let go of the text; readers keep theirs."""
        self._log.close()
        if self._text is not None:
            self._text.close()

    def _class(self, channel: int) -> _StreamClass:
        return self._classes.setdefault(channel, _StreamClass())

    def _append(self, text: str) -> None:
        self._check_room(text)
        self._publish(text)

    def _publish(self, text: str) -> None:
        if self._text is not None:
            try:
                self._text.append(text)
            except OSError as error:
                raise DeclarationRefusedError(
                    f"the trace's metadata file: {error.strerror}", error.errno or errno.EIO
                ) from None
        self._log.append(text)

    def _check_room(self, text: str) -> None:
        if self._log.length + self._waiting + len(text) > _MAX_TEXT:
            raise DeclarationRefusedError(
                f"the trace's metadata is {_MAX_TEXT} bytes long already", errno.ENOSPC
            )


def _difference(mine: Iterable[Field], others: Iterable[Field]) -> str:
    """Return how the contexts of a program differ from what the trace has already."""
    names = [field.name for field in mine]
    expected = [field.name for field in others]
    lacks = [name for name in expected if name not in names]
    more = [name for name in names if name not in expected]
    what = f": it lacks {', '.join(lacks)}" if lacks else ""
    what += f"{' and' if lacks else ':'} it has {', '.join(more)} too" if more else ""
    return f"its contexts differ from those of earlier programs in the same buffers{what}"


def _description(process: Process, patchlevel: int) -> ProcessDescription:
    return ProcessDescription(
        tracer_patchlevel=patchlevel,
        vpid=process.pid,
        procname=process.name,
        registered=process.registered.strftime("%Y%m%dT%H%M%S%z"),
    )
