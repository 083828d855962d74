# SPDX-License-Identifier: MIT
"""Control protocol: snapshots."""

from __future__ import annotations

import msgspec

from ustconsumer.protocol.messages import Message

__all__ = [
    "MESSAGES",
    "AddSnapshotOutput",
    "DelSnapshotOutput",
    "ListSnapshotOutputs",
    "PrepareSnapshot",
    "SnapshotOutput",
    "SnapshotOutputs",
    "SnapshotPlace",
]


class SnapshotOutput(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where snapshots of a session go unless they say otherwise."""

    #: 1 for the first; 0 where it is not known yet
    id: int = 0
    #: becomes the first part of the name of each snapshot's directory
    name: str = ""
    #: absolute directory, or URL of a relay; empty: the session's output
    path: str = ""
    #: of a relay's data port, if that is elsewhere: see `Destination`
    data_url: str = ""
    #: bytes of packets that one snapshot may have; 0: no limit
    max_size: int = 0


class AddSnapshotOutput(Message, tag="add-snapshot-output", kw_only=True):
    """Replied to with `SnapshotOutputs`, the new one alone."""

    session: str
    output: SnapshotOutput


class DelSnapshotOutput(Message, tag="del-snapshot-output", kw_only=True):
    session: str
    #: its name or its id
    output: str


class ListSnapshotOutputs(Message, tag="list-snapshot-outputs", kw_only=True):
    session: str


class SnapshotOutputs(Message, tag="snapshot-outputs", kw_only=True):
    outputs: list[SnapshotOutput]


class PrepareSnapshot(Message, tag="prepare-snapshot", kw_only=True):
    """Ask where the next snapshot goes; who takes it reads the buffers as an observer.

    Empty fields of ``output`` are those of the session's snapshot output.
    """

    session: str
    output: SnapshotOutput
    #: close the packets being written first, as LTTng does
    switch: bool = False


class SnapshotPlace(Message, tag="snapshot-place", kw_only=True):
    """Reply to `PrepareSnapshot`: a directory of its own, not there yet."""

    #: absolute; empty: it goes to a relay
    path: str
    max_size: int = 0
    #: of the relay: see `Destination`
    url: str = ""
    data_url: str = ""
    #: of its directory there, below the session's
    name: str = ""


#: Those of this module that travel.
MESSAGES: tuple[type[Message], ...] = (
    AddSnapshotOutput,
    DelSnapshotOutput,
    ListSnapshotOutputs,
    PrepareSnapshot,
    SnapshotOutputs,
    SnapshotPlace,
)
