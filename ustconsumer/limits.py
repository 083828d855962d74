# SPDX-License-Identifier: MIT
"""Limits of the process."""

from __future__ import annotations

import contextlib
import resource

__all__ = ["descriptors_leaving", "raise_descriptor_limit"]


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us.

    Each application and each stream needs several; the usual 1024 are for programs
    that use ``select``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors_leaving(reserve: int) -> int:
    """Return the number that a descriptor must be below to leave a reserve of others.

    The kernel gives the lowest free number, so the first one above tells that all below
    are taken. Of a small limit half is left.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - min(reserve, limit // 2)
