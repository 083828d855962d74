# SPDX-License-Identifier: MIT
"""``ust-consumerd disk SESSION``: write a session's trace to disk."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from consumerd.program import add_workers, run
from ustconsumer.consumer.sinks.disk import DiskSink
from ustconsumer.consumer.sinks.zstd import ZstdSink
from ustconsumer.protocol.control import Attached

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this consumer can be told beyond its session."""
    add_workers(parser)
    parser.add_argument("-o", "--output", help="directory (default: the session's output)")
    parser.add_argument(
        "--direct",
        action="store_true",
        help="write past the page cache where sub-buffers have 1 MiB or more",
    )


def main(arguments: argparse.Namespace) -> int:
    """Consume; return the exit status."""
    return run(
        "disk",
        arguments.session,
        arguments.rundir,
        lambda attached, report: _make_sink(arguments, attached, report),
        arguments.workers,
    )


def _make_sink(
    arguments: argparse.Namespace, attached: Attached, report: Callable[[str], None]
) -> DiskSink:
    output = arguments.output or attached.output
    if level := attached.destination.zstd:
        if arguments.direct:
            report(f"{output}: compressed packets are not written past the page cache (--direct)")
        return ZstdSink(output, level, chunk=attached.chunk, following=attached.following)
    return DiskSink(
        output,
        direct=arguments.direct,
        report=report,
        chunk=attached.chunk,
        following=attached.following,
    )
