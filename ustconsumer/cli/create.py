# SPDX-License-Identifier: MIT
"""``drtrace create``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.client.output import claim, default_output, given_output, timestamped, unclaim
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
    parser.add_argument(
        "--snapshot",
        action="store_true",
        help="snapshot mode: write nothing until `drtrace snapshot record`; buffers overwrite the "
        "oldest events by default",
    )
    parser.add_argument(
        "--no-output",
        action="store_true",
        help="with --snapshot: no place for snapshots that do not name one",
    )
    parser.add_argument(
        "--shm-path",
        metavar="DIR",
        help="keep the buffers in files below this directory: `drtrace recover` reads them after a "
        "crash",
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    name = timestamped("auto") if arguments.session is None else arguments.session
    if arguments.no_output:
        if arguments.output is not None or not arguments.snapshot:
            raise UsageError("--no-output is for --snapshot without --output")
        output = None
    elif arguments.output is None:
        # As LTTng: an automatic name has its date already.
        output = default_output(name if arguments.session is None else timestamped(name))
    else:
        output = given_output(arguments.output)
        # Refuse now what the consumer could not write to later.
        unclaim(claim(output))
    if arguments.shm_path == "":
        raise UsageError("--shm-path: an empty name is no directory")
    shm_path = None if arguments.shm_path is None else os.path.abspath(arguments.shm_path)
    with context.connect(start=True) as registry:
        session = registry.create(
            name, output or "", snapshot=arguments.snapshot, shm_path=shm_path
        )
        buffers = session.info().shm_path if shm_path is not None else ""
    try:
        current.remember(name, context.rundir)
    except OSError as error:
        context.warn(f"cannot make {name} the current session ({error.strerror}): use -s {name}")
    context.say(_created(name, output, arguments.snapshot))
    if buffers:
        context.say(f"Shared memory path set to {buffers}")
    context.dump(Done())


def _created(name: str, output: Path | None, snapshot: bool) -> str:
    if not snapshot:
        return f"Session {name} created.\nTraces will be output to {output}"
    place = [] if output is None else [f"Default snapshot output set to {output}"]
    return "\n".join(
        [
            f"Snapshot session {name} created.",
            *place,
            "Every channel enabled for this session will be set to mmap output and default to "
            "overwrite mode.",
        ]
    )
