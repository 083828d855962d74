# SPDX-License-Identifier: MIT
"""The plain-text metadata beside the buffers: as much of it as is whole."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ustconsumer.ctf.classes import TraceClass
from ustconsumer.ctf.declared import Declarations
from ustconsumer.ctf.metalog import MAX_TEXT
from ustconsumer.errors import DecodeError

__all__ = ["WholeText", "read_text", "whole_text"]

#: Where one of the tracer's declarations ends and another begins.
_BETWEEN = re.compile(rb";\n+(?=[^\s}])")


class WholeText(NamedTuple):
    """The beginning of a metadata text that makes sense."""

    text: bytes
    trace: TraceClass
    #: why the rest is left out, empty if there is none
    problem: str


def read_text(fd: int) -> bytes:
    """Return the content of a metadata file.

    Raises
    ------
    DecodeError
        It is too large.
    OSError
        It cannot be read.
    """
    parts, at = [], 0
    while part := os.pread(fd, 1 << 20, at):
        parts.append(part)
        at += len(part)
        if at > MAX_TEXT:
            raise DecodeError(f"metadata is larger than {MAX_TEXT} bytes")
    return b"".join(parts)


def whole_text(raw: bytes) -> WholeText:
    """Return metadata up to its last whole declaration.

    Its writer may have been killed in the middle of a write, and a machine that lost power
    leaves zeros.

    Raises
    ------
    DecodeError
        Not even trace and clock are declared.
    """
    good, problem = _good(raw)
    declarations = Declarations()
    declarations.add(raw[:good])
    trace = declarations.finish()
    if len(raw) - good and not problem:
        problem = "a declaration is cut off"
    if problem:
        problem = f"the last {len(raw) - good} of {len(raw)} bytes of metadata: {problem}"
    return WholeText(raw[:good], trace, problem)


def _good(raw: bytes) -> tuple[int, str]:
    """Return how many bytes are whole declarations, and what is wrong behind them."""
    declarations = Declarations()
    good = at = 0
    text = raw.partition(b"\0")[0]
    ends = [match.end() for match in _BETWEEN.finditer(text)]
    for end in [*ends, len(text)]:
        try:
            declarations.add(text[at:end])
        except DecodeError as error:
            return good, str(error)
        at = end
        if declarations.complete:
            good = end
    return good, ""
