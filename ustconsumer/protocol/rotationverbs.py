# SPDX-License-Identifier: MIT
"""Control protocol: rotations of a session into trace chunks, and clearing it."""

from __future__ import annotations

from ustconsumer.protocol.messages import Message
from ustconsumer.protocol.model import RotationSchedule

__all__ = [
    "MESSAGES",
    "Clear",
    "ClearSession",
    "DisableRotation",
    "EnableRotation",
    "Rotate",
    "RotateSession",
    "Rotated",
]


class RotateSession(Message, tag="rotate", kw_only=True):
    """Have what was recorded so far as a trace of its own, below ``archives``.

    Replied to with `Rotated`.
    """

    session: str
    #: reply when it is complete, not as soon as it is under way
    wait: bool = True


class Rotated(Message, tag="rotated", kw_only=True):
    """Reply to `RotateSession`."""

    #: of the chunk, absolute; at a relay below its own directory, empty until it is complete
    path: str
    #: it is at a relay
    at_relay: bool = False
    #: nothing is written to it any more
    complete: bool = True


class EnableRotation(Message, tag="enable-rotation", kw_only=True):
    session: str
    schedule: RotationSchedule


class DisableRotation(Message, tag="disable-rotation", kw_only=True):
    session: str
    timer: bool = False
    size: bool = False


class ClearSession(Message, tag="clear", kw_only=True):
    """Forget what was recorded so far, in buffers and files; the session goes on."""

    session: str


class Rotate(Message, tag="rotate-chunk", kw_only=True):
    """Push: begin a trace chunk, move the one before to its archive; then `Drained`.

    What was recorded before this message is in the one before. A consumer that takes over
    gets it again, and goes on where the one before it was killed.
    """

    #: names this rotation in the answer
    token: int
    #: directory of the new chunk below the output; empty: there is none, the session ends
    following: str
    #: directory of the old one below the output, when it is complete
    archive: str
    #: for a relay, which makes the directories: number of the new chunk, and when it begins,
    #: seconds since the epoch
    number: int = 0
    began: int = 0
    #: have the relay delete the old one: the session is cleared
    delete: bool = False


class Clear(Message, tag="clear-chunk", kw_only=True):
    """Push: forget what is in buffers and files; then `Drained`."""

    token: int


#: Those of this module that travel.
MESSAGES: tuple[type[Message], ...] = (
    RotateSession,
    Rotated,
    EnableRotation,
    DisableRotation,
    ClearSession,
    Rotate,
    Clear,
)
