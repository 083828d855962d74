# SPDX-License-Identifier: MIT
"""``drtrace remove-trigger``."""

from __future__ import annotations

import argparse

from ustconsumer.cli.context import Context
from ustconsumer.cli.values import uid
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the trigger")
    parser.add_argument("--owner-uid", type=uid, metavar="UID", help="whose it is (root only)")


def run(arguments: argparse.Namespace, context: Context) -> None:
    with context.connect() as registry:
        for line in registry.remove_trigger(arguments.name, uid=arguments.owner_uid):
            context.warn(line)
    context.say(f"Removed trigger `{arguments.name}`.")
    context.dump(Done())
