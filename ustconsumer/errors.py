# SPDX-License-Identifier: MIT
"""Errors of the library.

.. code-block:: text

    UstConsumerError
      UsageError              the caller asked for something that cannot be
      LayoutError             unknown or inconsistent memory layout
      RingBufferError         the ring buffer refuses or lies
      DecodeError             trace bytes that make no sense
      ProtocolError
        LocalProtocolError    we broke the protocol
        RemoteProtocolError   the peer broke it
      ConnectionClosedError
        ClosedResourceError   we closed it
        BrokenResourceError   the other side went away
      CommandError            the registry refused a command

Errors carry their facts as attributes. Only the daemons and ``drtrace`` turn
them into log lines and exit codes.
"""

from __future__ import annotations

__all__ = [
    "BrokenResourceError",
    "ClosedResourceError",
    "CommandError",
    "ConnectionClosedError",
    "DecodeError",
    "LayoutError",
    "LocalProtocolError",
    "ProtocolError",
    "RemoteProtocolError",
    "RingBufferError",
    "UsageError",
    "UstConsumerError",
]


class UstConsumerError(Exception):
    """Base class of every error this package raises on purpose."""


class UsageError(UstConsumerError):
    """A request that cannot be carried out as written: what, why, what to do."""


class LayoutError(UstConsumerError):
    """A memory layout is unknown or inconsistent.

    Parameters
    ----------
    what : str
        Name of the field or structure.
    expected, actual : object
        What the layout demands and what was found.
    offset : int, optional
        Byte offset in the object, where there is one.
    """

    def __init__(self, what: str, expected: object, actual: object, offset: int | None = None):
        at = "" if offset is None else f" at byte {offset}"
        super().__init__(f"{what}{at}: expected {expected}, found {actual}")
        self.what = what
        self.expected = expected
        self.actual = actual
        self.offset = offset


class RingBufferError(UstConsumerError):
    """A ring buffer refuses an operation, or its content contradicts itself."""


class DecodeError(UstConsumerError):
    """Trace bytes that cannot be decoded."""


class ProtocolError(UstConsumerError):
    """A message that breaks a protocol."""


class LocalProtocolError(ProtocolError):
    """We tried to break the protocol."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol."""


class ConnectionClosedError(UstConsumerError):
    """A connection is no longer usable."""


class ClosedResourceError(ConnectionClosedError):
    """We closed it ourselves."""


class BrokenResourceError(ConnectionClosedError):
    """The other side went away."""


class CommandError(UstConsumerError):
    """The registry refused a command.

    Parameters
    ----------
    message : str
        One line: what, why, what to do.
    kind : str
        Machine-readable reason, a member of ``protocol.control.ERROR_KINDS``.
    """

    def __init__(self, message: str, kind: str = "refused"):
        super().__init__(message)
        self.kind = kind
