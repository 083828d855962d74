# SPDX-License-Identifier: MIT
"""Limits of the process."""

from __future__ import annotations

import contextlib
import resource

__all__ = ["raise_descriptor_limit", "reserved_descriptors"]

_RESERVE = 256


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us.

    Each application and each stream needs several; the usual 1024 are for programs
    that use ``select``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def reserved_descriptors() -> int:
    """Return the number from which on descriptors are for what must go on when they run out."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - min(_RESERVE, limit // 2)
