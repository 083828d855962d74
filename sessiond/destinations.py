# SPDX-License-Identifier: MIT
"""What may be asked of the places that a session's packets go to."""

from __future__ import annotations

from sessiond.names import check_output
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import CreateSession, Destination
from ustconsumer.protocol.destinations import relay_of

__all__ = ["check_destination"]

_MAX_ZSTD = 22
#: As LTTng, which keeps it in 32 bits.
_MAX_LIVE_US = (1 << 32) - 1
_FILES = ("spool", "token_file", "ca_file", "cert_file", "key_file")


def check_destination(request: CreateSession) -> None:
    """Refuse a session whose packets could not go where they are to go.

    Raises
    ------
    UsageError
        A URL is none, or options contradict each other.
    """
    wanted = request.destination
    for name in _FILES:
        path = getattr(wanted, name)
        if path:
            check_output(path, name.replace("_", " "))
    if not 0 <= wanted.zstd <= _MAX_ZSTD:
        raise UsageError(f"zstd level {wanted.zstd}: use 1 to {_MAX_ZSTD}, 0 for plain files")
    if not 0 <= wanted.live_us <= _MAX_LIVE_US:
        raise UsageError(f"a live timer of {wanted.live_us} us: use 1 to {_MAX_LIVE_US}")
    if wanted.spool_size < 0 or (wanted.spool_size and not wanted.spool):
        raise UsageError(f"a spool of {wanted.spool_size} bytes: a directory and at least 1, or 0")
    if wanted.url:
        _check_relay(wanted)
        if request.name.startswith("."):
            raise UsageError(f"session name {request.name!r}: a relay takes no leading dot")
    elif wanted.data_url or wanted.live_us or any(getattr(wanted, name) for name in _FILES):
        raise UsageError(
            "a live timer, a spool, a token and certificates are for a relay: say its URL"
        )
    if request.snapshot:
        if wanted.live_us:
            raise UsageError("snapshot and live modes are mutually exclusive: choose one")
        if wanted.url and request.output:
            raise UsageError("snapshots go to a directory or to a relay: choose one")
        if wanted.spool or wanted.zstd:
            raise UsageError("a session in snapshot mode writes plain files, without a spool")
    elif wanted.zstd and not request.output:
        raise UsageError("zstd is for the files of a directory: a relay's URL is net+zstd://")


def _check_relay(wanted: Destination) -> None:
    relay = relay_of(wanted)
    if wanted.key_file and not wanted.cert_file:
        raise UsageError(f"{wanted.key_file} is the key of a certificate: say that, too")
    if (wanted.ca_file or wanted.cert_file) and not relay.tls:
        raise UsageError(f"certificates are for net+tls://: {relay} has no use for them")
