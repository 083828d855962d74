# SPDX-License-Identifier: MIT
"""``drtrace track``."""

from __future__ import annotations

import argparse

from ustconsumer.cli.context import Context
from ustconsumer.cli.tracking import add_attributes, run_tracking

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_attributes(parser)


def run(arguments: argparse.Namespace, context: Context) -> None:
    run_tracking(arguments, context, remove=False)
