# SPDX-License-Identifier: MIT
"""``drtrace unpack``: a plain trace, which every reader opens, from a compressed one."""

from __future__ import annotations

import argparse

from ustconsumer.cli.context import Context

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a trace of --zstd as the plain trace that would have been recorded without it. "
        "drtrace view reads either; other readers want the plain one."
    )
    parser.add_argument("trace", metavar="DIR", help="of a trace, or above one or several")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="directory of the plain trace, absent or empty (default: beside, with -plain)",
    )
    where.add_argument(
        "--in-place", action="store_true", help="replace the compressed files by the plain ones"
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    from ustconsumer.client.unpack import unpack

    done = unpack(arguments.trace, arguments.output, in_place=arguments.in_place)
    for line in done.problems:
        context.warn(line)
    context.say(f"{done.files} files unpacked, {done.stored} bytes became {done.bytes}")
    context.say(done.path)
    context.dump(done)
