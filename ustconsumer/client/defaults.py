# SPDX-License-Identifier: MIT
"""What is recorded, and how, where whoever records does not say otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from ustconsumer.client.session import Session
from ustconsumer.protocol.control import ChannelOptions

__all__ = ["CHANNEL", "CONTEXTS", "STATEDUMP", "configure"]

#: The one channel.
CHANNEL = "channel0"
#: Fields recorded with each event.
CONTEXTS = ("vpid", "vtid", "procname")
#: What a tracer says of its program by itself, whenever a recording begins.
STATEDUMP = "lttng_ust_statedump:*"


def configure(
    session: Session,
    events: Sequence[str],
    contexts: Sequence[str],
    channel: ChannelOptions | None,
    exclude: Sequence[str] = (),
) -> list[str]:
    """Give a new session its channel, contexts and events; return the registry's warnings.

    Parameters
    ----------
    events : sequence of str
        Patterns of names. None: whatever the programs emit, without the state dumps (the
        libraries each has loaded) that open a trace of all events.
    """
    exclusions = tuple(exclude) if events else (*exclude, STATEDUMP)
    warnings = session.enable_channel(CHANNEL, channel)
    if contexts:
        warnings += session.add_context(contexts, CHANNEL)
    for pattern in dict.fromkeys(events or ("*",)):
        warnings += session.enable_event(pattern, CHANNEL, exclusions=exclusions)
    return warnings
