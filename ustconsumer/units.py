# SPDX-License-Identifier: MIT
"""Distinct integer types for the quantities that must not mix."""

from __future__ import annotations

from typing import NewType

__all__ = ["BitOffset", "ByteOffset", "CpuId", "Nanoseconds", "Position", "SubbufIndex"]

#: Position in a ring buffer: an unsigned word that only grows and wraps modulo 2**64.
Position = NewType("Position", int)
#: Index of a sub-buffer, in ``[0, num_subbuf)``.
SubbufIndex = NewType("SubbufIndex", int)
ByteOffset = NewType("ByteOffset", int)
BitOffset = NewType("BitOffset", int)
CpuId = NewType("CpuId", int)
#: CLOCK_MONOTONIC nanoseconds unless said otherwise.
Nanoseconds = NewType("Nanoseconds", int)
