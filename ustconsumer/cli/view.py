# SPDX-License-Identifier: MIT
"""``drtrace view``: hands over to babeltrace2."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from ustconsumer.cli.context import Context
from ustconsumer.client.output import newest_trace
from ustconsumer.errors import UsageError

__all__ = ["configure", "run"]

_READER = "babeltrace2"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "trace", nargs="?", metavar="DIR", help="default: the newest below ~/lttng-traces"
    )
    parser.add_argument("-t", "--trace-path", metavar="DIR", help="the same, as lttng has it")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="...", help=f"options of {_READER}"
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    named = arguments.trace_path or arguments.trace
    trace = Path(named) if named else newest_trace()
    if not trace.is_dir():
        raise UsageError(f"{trace}: no such directory: name the directory of a trace")
    reader = shutil.which(_READER)
    if reader is None:
        raise UsageError(
            f"{_READER} is not installed: install it (package {_READER}) to read traces"
        )
    sys.stdout.flush()
    os.execv(reader, [_READER, *arguments.options, os.fspath(trace)])  # noqa: S606 (its purpose)
