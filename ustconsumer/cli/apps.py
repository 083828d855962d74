# SPDX-License-Identifier: MIT
"""``drtrace apps``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ustconsumer.cli.context import Context
from ustconsumer.cli.terminal import folded, on_terminal

if TYPE_CHECKING:
    from ustconsumer.protocol.control import AppInfo

__all__ = ["configure", "run"]

_TITLES = ("PID", "UID", "NAME", "ABI", "BITS", "TRACER", "STATE", "SESSIONS")
_REASON = "REASON"


def configure(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def _pid(app: AppInfo) -> str:
    """Its pid here, and the one it has in its container."""
    pid = str(app.pid) if app.pid else "?"
    return f"{pid} ({app.ns_pid} inside)" if app.ns_pid else pid


def run(arguments: argparse.Namespace, context: Context) -> None:
    with context.connect() as registry:
        applications = sorted(registry.applications(), key=lambda app: app.pid)
    context.dump(applications)
    if not applications:
        context.say("No registered program")
        return
    rows = [_TITLES]
    for app in applications:
        sessions = ",".join(app.sessions) or "-"
        version = app.tracer or "-"
        rows.append(
            (
                *(_pid(app), str(app.uid), app.name, app.abi or "-", str(app.bits or "-")),
                *(version, app.state, sessions),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    reasons = [_REASON, *(app.reason for app in applications)]
    below = on_terminal()
    for number, (row, reason) in enumerate(zip(rows, reasons, strict=True)):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        if not below:
            context.say(f"{cells}  {reason}".rstrip())
            continue
        context.say(cells.rstrip())
        # Sentences make no column: below their row they leave the table readable.
        if number and reason:
            context.say("\n".join(folded(" " * (widths[0] + 2), reason)))
