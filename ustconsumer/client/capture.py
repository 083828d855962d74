# SPDX-License-Identifier: MIT
"""Capture expressions of triggers, compiled to bytecode for applications.

The language is that of ``lttng add-trigger --capture``, and so is the bytecode, byte for byte:
``field``, ``field[3]``, ``$ctx.vpid``, ``$app.provider:name``. What lttng refuses is refused
here too: operators, constants, members of fields.
"""

from __future__ import annotations

from ustconsumer.client.filter import FilterError, FilterProgram, compile_reference
from ustconsumer.errors import UsageError

__all__ = ["CaptureError", "compile_capture"]


class CaptureError(UsageError):
    """An expression that is none, or names nothing that can be captured.

    Attributes
    ----------
    column : int
        Where in the text, from 1 on.
    """

    def __init__(self, what: str, column: int):
        super().__init__(f"capture, column {column}: {what}")
        self.column = column


def compile_capture(text: str) -> FilterProgram:
    """Return the bytecode of a capture expression.

    Raises
    ------
    CaptureError
    """
    try:
        return compile_reference(text)
    except FilterError as error:
        raise CaptureError(error.what, error.column) from None
