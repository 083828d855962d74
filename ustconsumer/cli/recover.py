# SPDX-License-Identifier: MIT
"""``drtrace recover``: a readable trace from the files of ``--shm-path``, after a crash."""

from __future__ import annotations

import argparse

from ustconsumer.cli.context import Context

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", metavar="PATH", help="what was given as --shm-path, or a directory below it")
    add(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        help="directory of the trace, absent or empty",
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    from ustconsumer.recover import recover

    done = recover(arguments.path, arguments.output)
    if done.writers:
        pids = ", ".join(map(str, done.writers))
        context.warn(
            f"processes still have these buffers, what they record from now on is not in the "
            f"trace: {pids}",
            harmless=True,
        )
    for line in done.problems:
        context.warn(line)
    unfinished = ""
    if done.unfinished:
        unfinished = f" ({done.unfinished} unfinished: as far as they were committed)"
    context.say(
        f"{done.events} events recovered, {done.packets} packets{unfinished}, "
        f"{done.streams} streams, {done.bytes} bytes"
    )
    context.say(done.path)
    context.dump(done)
