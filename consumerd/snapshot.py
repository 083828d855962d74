# SPDX-License-Identifier: MIT
"""``ust-consumerd snapshot SESSION``: write what is in a session's buffers now, and end."""

from __future__ import annotations

import argparse

from consumerd.program import begin, report
from ustconsumer.client.connection import Connection
from ustconsumer.consumer.observer import Observer
from ustconsumer.consumer.ship import send_snapshot
from ustconsumer.consumer.snapshot import Snapshot
from ustconsumer.errors import UstConsumerError
from ustconsumer.protocol.control import SnapshotPlace

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this consumer can be told beyond its session."""
    places = parser.add_mutually_exclusive_group(required=True)
    places.add_argument("-o", "--output", help="directory, absent or empty")
    places.add_argument("--to", metavar="URL", help="of a relay")
    parser.add_argument("--data-url", default="", metavar="URL", help="of its data port")
    parser.add_argument(
        "--name", default="snapshot-0", help="directory at the relay, below the session's"
    )
    parser.add_argument(
        "--max-size",
        type=_bytes,
        default=0,
        metavar="BYTES",
        help="most bytes of packets, the newest (default: no limit)",
    )


def _bytes(text: str) -> int:
    size = int(text)
    if size < 0:
        raise ValueError
    return size


def main(arguments: argparse.Namespace) -> int:
    """Take one snapshot; return the exit status."""
    begin()
    try:
        connection = Connection.connect(arguments.rundir, role="observer")
        with Observer(connection, arguments.session) as observer:
            snapshot = _take(observer, arguments)
    except (UstConsumerError, OSError) as error:
        report(str(error))
        return 1
    for line in snapshot.problems:
        report(line)
    return 0


def _take(observer: Observer, arguments: argparse.Namespace) -> Snapshot:
    if not arguments.to:
        return observer.snapshot(arguments.output, arguments.max_size)
    place = SnapshotPlace(
        path="",
        max_size=arguments.max_size,
        url=arguments.to,
        data_url=arguments.data_url,
        name=arguments.name,
    )
    return send_snapshot(observer, place)
