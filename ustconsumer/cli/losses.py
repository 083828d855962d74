# SPDX-License-Identifier: MIT
"""Saying how many events a session lost."""

from __future__ import annotations

from ustconsumer.cli.context import Context
from ustconsumer.client.session import Session

__all__ = ["warn_of_losses"]


def warn_of_losses(session: Session, context: Context) -> None:
    """Say if events of a session were discarded; as with ``lttng``, no failure of the command."""
    streams = session.info().streams
    lost = sum(stream.lost_full + stream.lost_wrap + stream.lost_big for stream in streams)
    if lost:
        context.warn(
            f"{lost} events were discarded in session {session.name}: "
            "use more or larger sub-buffers (--num-subbuf, --subbuf-size)",
            harmless=True,
        )
