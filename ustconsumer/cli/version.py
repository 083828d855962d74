# SPDX-License-Identifier: MIT
"""``drtrace version``."""

from __future__ import annotations

import argparse

import ustconsumer
from ustconsumer.cli.context import Context

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def run(arguments: argparse.Namespace, context: Context) -> None:
    context.say(f"drtrace version {ustconsumer.__version__}")
    context.dump({"version": ustconsumer.__version__})
