# SPDX-License-Identifier: MIT
"""What every verb has at hand: the global options, the terminal, the registry."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ustconsumer.cli.terminal import interrupt_raises
from ustconsumer.errors import BrokenResourceError, UsageError

if TYPE_CHECKING:
    from ustconsumer.client.registry import Registry

__all__ = ["Context"]


class Context:
    """State of one ``drtrace`` call.

    Parameters
    ----------
    arguments : argparse.Namespace
        With the global options.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.rundir: str | None = arguments.rundir
        self.group: str | None = arguments.group
        self.no_sessiond: bool = arguments.no_sessiond
        self.json: bool = arguments.json
        self.warned = False
        self._quiet: bool = arguments.quiet
        self._verbose: int = arguments.verbose

    def say(self, text: str) -> None:
        """Print for people: nothing with ``-q`` or ``--json``."""
        if not self._quiet and not self.json:
            print(text)

    def dump(self, value: object) -> None:
        """Print for programs: with ``--json``, one line."""
        if self.json:
            import msgspec  # not for --help: it is half of what that would cost

            print(msgspec.json.encode(value).decode())

    def warn(self, text: str, *, harmless: bool = False) -> None:
        """Print a warning; unless ``harmless``, the exit status becomes 4 if it is not worse."""
        self.warned = self.warned or not harmless
        self._complain("Warning", text)

    def error(self, text: str) -> None:
        """Print why the command failed."""
        self._complain("Error", text)

    def connect(self, *, start: bool = False) -> Registry:
        """Connect to the registry; ``start`` one if none answers, unless ``-n`` forbids it.

        Raises
        ------
        UsageError
            None answers.
        """
        from ustconsumer.client.registry import connect

        if start:
            interrupt_raises()
        try:
            registry = connect(self.rundir, start=start and not self.no_sessiond, group=self.group)
        except BrokenResourceError as error:
            raise UsageError(f"No session daemon is available: {error}") from None
        if self._verbose:
            welcome = registry.connection.welcome
            self._complain(
                "Debug", f"session daemon {welcome.release}, pid {welcome.pid}, {welcome.rundir}"
            )
        return registry

    def _complain(self, kind: str, text: str) -> None:
        if self._quiet:
            return
        # What was said before must stand before it, also where both go to one file.
        sys.stdout.flush()
        print(f"{kind}: {' '.join(text.split())}", file=sys.stderr, flush=True)
