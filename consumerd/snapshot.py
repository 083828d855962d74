# SPDX-License-Identifier: MIT
"""``ust-consumerd snapshot SESSION``: write what is in a session's buffers now, and end."""

from __future__ import annotations

import argparse

from consumerd.program import begin, report
from ustconsumer.client.connection import Connection
from ustconsumer.consumer.observer import Observer
from ustconsumer.errors import UstConsumerError

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this consumer can be told beyond its session."""
    parser.add_argument("-o", "--output", required=True, help="directory, absent or empty")
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
            snapshot = observer.snapshot(arguments.output, arguments.max_size)
    except (UstConsumerError, OSError) as error:
        report(str(error))
        return 1
    for line in snapshot.problems:
        report(line)
    return 0
