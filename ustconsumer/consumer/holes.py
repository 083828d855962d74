# SPDX-License-Identifier: MIT
"""Sub-buffers that a killed process left unfinished: found, judged by the registry, repaired."""

from __future__ import annotations

from collections.abc import Callable

from ustconsumer.consumer.subscription import Subscription

__all__ = ["Holes"]


class Holes:
    """Looks for sub-buffers that stay uncommitted and has them repaired.

    Parameters
    ----------
    subscription : Subscription
    problem : callable
        Told what was lost, one line each.
    report : callable
        Told what is going on.

    Attributes
    ----------
    repaired : int
        Packets repaired so far.
    """

    def __init__(
        self,
        subscription: Subscription,
        problem: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        self._subscription = subscription
        self._problem = problem
        self._report = report
        self.repaired = 0

    def look(self) -> None:
        """Look for holes now and then; carry out what the registry answered."""
