# SPDX-License-Identifier: MIT
"""Whether a hole in a buffer was left by a dead process: only then it may be repaired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from sessiond.applications import Application
from sessiond.recording import Recording
from sessiond.subscription import Subscription
from ustconsumer.protocol.control import HoleFound, HoleVerdict

__all__ = ["HoleJudge"]


class HoleJudge:
    """Judges the holes that consumers find.

    Parameters
    ----------
    applications : callable
        Returns the registered applications.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, applications: Callable[[], Iterable[Application]]
    ) -> None:
        self._loop = loop
        self._applications = applications

    def found(self, recording: Recording, subscription: Subscription, message: HoleFound) -> None:
        """Find out who may still commit, then push the verdict."""
        subscription.push_verdict(
            HoleVerdict(
                stream=message.stream,
                position=message.position,
                produced=message.produced,
                reason="not judged yet",
            )
        )
