# SPDX-License-Identifier: MIT
"""``drtrace status``."""

from __future__ import annotations

import argparse

from ustconsumer.cli import current
from ustconsumer.cli.context import Context
from ustconsumer.cli.options import add_session
from ustconsumer.cli.show import describe_session

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_session(parser)


def run(arguments: argparse.Namespace, context: Context) -> None:
    with context.connect() as registry:
        name = current.choose(arguments.session, context.rundir)
        info = registry.session(name).info()
    context.say(describe_session(info, load=True))
    context.dump(info)
