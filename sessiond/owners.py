# SPDX-License-Identifier: MIT
"""Whose buffers a trace holds."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

__all__ = ["Owner", "Process"]


@dataclass(frozen=True)
class Process:
    """The one process that writes a trace, as it registered."""

    pid: int
    name: str
    #: of the registration: a process that registers again gets other buffers
    number: int
    registered: datetime.datetime

    @property
    def directory(self) -> str:
        """LTTng's name of its trace."""
        name = self.name.replace("/", "_").replace("\0", "_")
        return f"{name}-{self.pid}-{self.registered:%Y%m%d-%H%M%S}"


@dataclass(frozen=True)
class Owner:
    """Whose buffers a trace holds: those of a uid, or of one process.

    ``layout`` and ``tracer`` (a version) are the first application's.
    """

    uid: int
    layout: str
    tracer: str
    process: Process | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Same for applications that share buffers."""
        return self.uid, -1 if self.process is None else self.process.number
