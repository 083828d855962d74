# SPDX-License-Identifier: MIT
"""``drtrace create``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.client.output import default_output, timestamped
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="NAME", help="default: auto-YYYYmmdd-HHMMSS")
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="directory of the trace (default: a new one below ~/lttng-traces)",
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    name = arguments.session or timestamped("auto")
    if arguments.output is None:
        # As LTTng: an automatic name has its date already.
        output = default_output(name if arguments.session is None else timestamped(name))
    else:
        output = Path(os.path.abspath(arguments.output))
        _check(output)
    with context.connect(start=True) as registry:
        registry.create(name, output)
    try:
        current.remember(name, context.rundir)
    except OSError as error:
        context.warn(f"cannot make {name} the current session ({error.strerror}): use -s {name}")
    context.say(f"Session {name} created.\nTraces will be output to {output}")
    context.dump(Done())


def _check(output: Path) -> None:
    """Refuse now what the consumer could not write to later."""
    try:
        occupied = output.exists() and any(output.iterdir())
    except OSError as error:
        raise UsageError(
            f"cannot use output directory {output} ({error.strerror}): name another with -o"
        ) from None
    if occupied:
        raise UsageError(f"output directory {output} is not empty: name another with -o")
    existing = next(place for place in (output, *output.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(
            f"cannot write to output directory {output} ({existing} is not writable): "
            "name another with -o"
        )
