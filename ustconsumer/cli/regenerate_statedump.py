# SPDX-License-Identifier: MIT
"""``drtrace regenerate statedump``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_session
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_session(parser)


def run(arguments: argparse.Namespace, context: Context) -> None:
    with context.connect() as registry:
        session = registry.session(current.choose(arguments.session, context.rundir))
        warnings = session.regenerate_statedump()
        for line in warnings:
            context.warn(line)
        context.say(f"State dump successfully regenerated for session {session.name}")
        context.dump(Done(warnings=warnings))
