# SPDX-License-Identifier: MIT
"""Control protocol: what is changed of a session while it records."""

from __future__ import annotations

from ustconsumer.protocol.messages import Message

__all__ = ["MESSAGES", "RegenerateMetadata", "RegenerateStatedump", "SetOptions"]


class RegenerateMetadata(Message, tag="regenerate-metadata", kw_only=True):
    """Say anew in the metadata how the traces' clock relates to the time of day."""

    session: str


class RegenerateStatedump(Message, tag="regenerate-statedump", kw_only=True):
    """Have every program record its state again; replied to when those in time have."""

    session: str


class SetOptions(Message, tag="set-options", kw_only=True):
    """Change attributes of channels, where that is possible."""

    session: str
    #: empty: every channel
    channel: str = ""
    #: attributes of `ChannelOptions` by name; the others stay
    options: dict[str, int | str]


#: Those of this module that travel.
MESSAGES: tuple[type[Message], ...] = (RegenerateMetadata, RegenerateStatedump, SetOptions)
