# SPDX-License-Identifier: MIT
"""``ust-consumerd network SESSION``: send a session's trace to a relay."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable

from consumerd.program import add_workers, run
from ustconsumer.consumer.relaylink import Identity
from ustconsumer.consumer.sinks.both import BothSink
from ustconsumer.consumer.sinks.disk import DiskSink
from ustconsumer.consumer.sinks.network import NetworkSink
from ustconsumer.consumer.sinks.zstd import ZstdSink
from ustconsumer.consumer.spool import Spool
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Attached
from ustconsumer.protocol.destinations import relay_of
from ustconsumer.protocol.relay import CreateChunk
from ustconsumer.protocol.relayurl import parse_url
from ustconsumer.relay.wire import Credentials

__all__ = ["add_arguments", "main"]

#: Seconds that one thread may keep the interpreter from the other; Python's own 5 ms fill the
#: buffers of a fast program.
_TURN = 0.0005


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this consumer can be told beyond its session."""
    add_workers(parser)
    parser.add_argument("--to", metavar="URL", help="of the relay (default: the session's)")


def main(arguments: argparse.Namespace) -> int:
    """Consume; return the exit status."""
    # Who reads and who sends take turns all the time: each waits for the other's packets.
    sys.setswitchinterval(_TURN)
    return run(
        "network",
        arguments.session,
        arguments.rundir,
        lambda attached, report: _sink(arguments.to, attached, report),
        arguments.workers,
    )


def _sink(to: str | None, attached: Attached, report: Callable[[str], None]) -> NetworkSink:
    wanted = attached.destination
    if not (to or wanted.url):
        raise UsageError(f"session {attached.session} has no relay's URL: say one with --to")
    identity = Identity(
        host=socket.gethostname(),
        name=attached.session,
        uuid=uuid.UUID(attached.id).bytes,
        created=attached.created,
        live_us=wanted.live_us,
        again=attached.turn,
    )
    credentials = Credentials(
        token_file=wanted.token_file,
        ca_file=wanted.ca_file,
        cert_file=wanted.cert_file,
        key_file=wanted.key_file,
    )
    keeper = _spool(attached) if wanted.spool else None
    relay = parse_url(to) if to else relay_of(wanted)
    if to or not attached.output:
        return NetworkSink(
            relay,
            identity,
            credentials,
            report=report,
            keeper=keeper,
            chunk=CreateChunk(attached.chunk_number, attached.chunk_began or int(time.time())),
            following=_following(attached),
        )
    files = ZstdSink(attached.output, wanted.zstd) if wanted.zstd else DiskSink(attached.output)
    return BothSink(files, relay, identity, credentials, report=report, keeper=keeper)


def _following(attached: Attached) -> CreateChunk | None:
    """Return the chunk that a consumer before us was told to begin."""
    if not attached.following:
        return None
    return CreateChunk(attached.chunk_number + 1, attached.following_began)


def _spool(attached: Attached) -> Spool:
    wanted = attached.destination
    directory = os.path.join(wanted.spool, f"{attached.session}-{attached.id}")
    try:
        return Spool(directory, wanted.spool_size)
    except OSError as error:
        raise UsageError(f"cannot use spool directory {directory}: {error.strerror}") from None
