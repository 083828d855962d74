# SPDX-License-Identifier: MIT
"""Notify socket of the application protocol: requests in, answers out, no I/O.

An application asks for ids of what it is about to record and blocks, holding its
global lock, until the answer is there: append the metadata first, then answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from ustconsumer.abi.application import APPLICATION_LAYOUTS, NotifyNumber
from ustconsumer.abi.rows import Layout
from ustconsumer.ctf.types import EnumEntry, Field
from ustconsumer.errors import LocalProtocolError, RemoteProtocolError
from ustconsumer.protocol.fields import (
    MAX_ENTRIES,
    MAX_FIELDS,
    decode_entries,
    decode_fields,
    text,
)

__all__ = [
    "HEADER_LARGE",
    "MAX_TEXT",
    "ChannelRequest",
    "EnumRequest",
    "EventRequest",
    "NotifyDecoder",
    "Request",
    "channel_reply",
    "enum_reply",
    "event_reply",
]

#: Bytes of a signature or a model URI.
MAX_TEXT = 1 << 16
#: Event header of the CTF structure ``event_header_large``, what lttng-sessiond answers.
HEADER_LARGE = 2

_NINE = APPLICATION_LAYOUTS[9]


class EventRequest(NamedTuple):
    """An event matched a rule: which id has it in this channel? Answer: `event_reply`."""

    session: int
    channel: int
    name: str
    loglevel: int
    signature: str
    fields: tuple[Field, ...]
    model_emf_uri: str


class ChannelRequest(NamedTuple):
    """A channel is recorded for the first time. Answer: `channel_reply`."""

    session: int
    channel: int
    contexts: tuple[Field, ...]


class EnumRequest(NamedTuple):
    """An enumeration that events of the session use. Answer: `enum_reply`."""

    session: int
    name: str
    entries: tuple[EnumEntry, ...]


Request: TypeAlias = EventRequest | ChannelRequest | EnumRequest


class NotifyDecoder:
    """Turn received bytes into requests.

    Parameters
    ----------
    major : int
        ABI of the application, from its registration.
    """

    def __init__(self, major: int = 9):
        self._major = major
        self._layouts = APPLICATION_LAYOUTS[major]
        self._buffer = bytearray()

    @property
    def incomplete(self) -> bool:
        """A request has begun and not ended."""
        return bool(self._buffer)

    def feed(self, chunk: bytes) -> Iterator[Request]:
        """Add received bytes; yield each complete request.

        Raises
        ------
        RemoteProtocolError
            A message that makes no sense. The connection is of no use any more.
        """
        self._buffer += chunk
        while len(self._buffer) >= self._layouts.event_request.field_size("number"):
            layout = self._layout()
            if len(self._buffer) < layout.size:
                return
            lengths = self._lengths(layout)
            total = layout.size + sum(lengths)
            if len(self._buffer) < total:
                return
            parts: list[bytes] = []
            at = layout.size
            for length in lengths:
                parts.append(bytes(self._buffer[at : at + length]))
                at += length
            request = self._request(layout, parts)
            del self._buffer[:total]
            yield request

    def _layout(self) -> Layout:
        number: int = self._layouts.event_request.get(self._buffer, 0, "number")
        if number == NotifyNumber.EVENT:
            return self._layouts.event_request
        if number == NotifyNumber.CHANNEL:
            return self._layouts.channel_request
        if number == NotifyNumber.ENUM:
            return self._layouts.enum_request
        raise RemoteProtocolError(f"notify socket: unknown request {number}")

    def _lengths(self, layout: Layout) -> tuple[int, ...]:
        """Return the lengths of what follows the message, each checked."""
        entry = self._layouts.enum_entry.size
        descriptor = self._layouts.fields[0].size
        limits = {
            "signature_length": MAX_TEXT,
            "fields_length": MAX_FIELDS * descriptor,
            "uri_length": MAX_TEXT,
            "entries_length": MAX_ENTRIES * entry,
        }
        lengths = []
        for row in layout:
            limit = limits.get(row.name)
            if limit is None:
                continue
            length: int = layout.get(self._buffer, 0, row.name)
            if length > limit:
                raise RemoteProtocolError(
                    f"{layout.name}: {row.name} {length} is more than {limit}"
                )
            lengths.append(length)
        return tuple(lengths)

    def _request(self, layout: Layout, parts: list[bytes]) -> Request:
        values = layout.get_all(self._buffer)
        session: int = values["session"]
        if layout is self._layouts.channel_request:
            return ChannelRequest(session, values["channel"], decode_fields(parts[0], self._major))
        name = text(values["name"], f"{layout.name}: name")
        if layout is self._layouts.enum_request:
            return EnumRequest(session, name, decode_entries(parts[0], self._major))
        signature, fields, uri = parts
        return EventRequest(
            session=session,
            channel=values["channel"],
            name=name,
            loglevel=values["loglevel"],
            signature=text(signature, f"signature of {name!r}"),
            fields=decode_fields(fields, self._major),
            model_emf_uri=text(uri, f"model URI of {name!r}") if uri else "",
        )


def event_reply(ret_code: int, event_id: int) -> bytes:
    """Return the answer to an `EventRequest`; ``ret_code`` 0 or a negative errno."""
    return _answer(_NINE.event_answer, NotifyNumber.EVENT, ret_code, {"id": event_id})


def channel_reply(ret_code: int, chan_id: int, header_type: int = HEADER_LARGE) -> bytes:
    """Return the answer to a `ChannelRequest`.

    ``chan_id`` must be the one in the channel's blob, else the application fails.
    """
    values = {"id": chan_id, "header_type": header_type}
    return _answer(_NINE.channel_answer, NotifyNumber.CHANNEL, ret_code, values)


def enum_reply(ret_code: int, enum_id: int) -> bytes:
    """Return the answer to an `EnumRequest`; the id comes back in field descriptors."""
    return _answer(_NINE.enum_answer, NotifyNumber.ENUM, ret_code, {"id": enum_id})


def _answer(layout: Layout, number: int, ret_code: int, values: dict[str, int]) -> bytes:
    # A positive code would be an error to the application as well: one that says nothing.
    if ret_code > 0:
        raise LocalProtocolError(f"{layout.name}: return code {ret_code} is not negative")
    return layout.pack({"number": number, "ret_code": ret_code, **values})
