# SPDX-License-Identifier: MIT
"""``drtrace list-triggers``."""

from __future__ import annotations

import argparse

from ustconsumer.cli.context import Context

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(arguments: argparse.Namespace, context: Context) -> None:
    from ustconsumer.cli.triggers import describe

    with context.connect() as registry:
        triggers = sorted(registry.triggers(), key=lambda trigger: (trigger.name, trigger.uid))
    if triggers:
        context.say("\n".join(describe(trigger) for trigger in triggers))
    context.dump(triggers)
