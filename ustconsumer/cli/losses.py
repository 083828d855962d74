# SPDX-License-Identifier: MIT
"""Saying how many events a session lost."""

from __future__ import annotations

from ustconsumer.cli.context import Context
from ustconsumer.client.session import Session

__all__ = ["warn_of_losses"]


def warn_of_losses(session: Session, context: Context) -> None:
    """Say if events of a session were discarded; as with ``lttng``, no failure of the command."""
    lost = sum(channel.discarded for channel in session.info().channels)
    if lost:
        events = "1 event was" if lost == 1 else f"{lost} events were"
        context.warn(
            f"{events} discarded in session {session.name}: "
            "use more or larger sub-buffers (--num-subbuf, --subbuf-size)",
            harmless=True,
        )
