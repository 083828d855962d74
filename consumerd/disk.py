# SPDX-License-Identifier: MIT
"""``ust-consumerd disk SESSION``: write a session's trace to disk."""

from __future__ import annotations

import argparse

from consumerd.program import add_workers, run
from ustconsumer.consumer.sinks.disk import DiskSink

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
        lambda attached, report: DiskSink(
            arguments.output or attached.output, direct=arguments.direct, report=report
        ),
        arguments.workers,
    )
