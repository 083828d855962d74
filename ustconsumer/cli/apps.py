# SPDX-License-Identifier: MIT
"""``drtrace apps``."""

from __future__ import annotations

import argparse

from ustconsumer.cli.context import Context

__all__ = ["configure", "run"]

_TITLES = ("PID", "UID", "NAME", "ABI", "BITS", "TRACER", "STATE", "SESSIONS", "REASON")


def configure(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


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
                *(str(app.pid), str(app.uid), app.name, app.abi, str(app.bits), version),
                *(app.state, sessions, app.reason),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        context.say("  ".join(cells).rstrip())
