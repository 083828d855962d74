# SPDX-License-Identifier: MIT
"""Where the snapshots of a session go, in LTTng's words."""

from __future__ import annotations

import datetime
import os
import re

import msgspec

from sessiond.names import check_output
from sessiond.registry import Session
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import Destination, SnapshotOutput, SnapshotPlace
from ustconsumer.protocol.destinations import is_relay_url, relay_of

__all__ = ["SnapshotOutputs"]

#: What becomes a part of a directory's name.
_NAME = re.compile(r"[^/\0]{1,200}")
#: LTTng's: a session has one place for its snapshots.
_MAX_OUTPUTS = 1


def _check(output: SnapshotOutput) -> None:
    if output.name and (not _NAME.fullmatch(output.name) or output.name in (".", "..")):
        raise UsageError(f"snapshot name {output.name!r} cannot be a part of a directory's name")
    if is_relay_url(output.path):
        relay_of(Destination(url=output.path, data_url=output.data_url))
    elif output.data_url:
        raise UsageError(f"{output.data_url} is of a relay's data port: say where the relay is")
    elif output.path:
        check_output(output.path)
    if output.max_size < 0:
        raise UsageError(f"a snapshot of {output.max_size} bytes: at least 1, or 0 for no limit")


class SnapshotOutputs:
    """Where the snapshots of one session go."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._next_id = 1
        self._taken = 0
        self._outputs: list[SnapshotOutput] = []
        if session.snapshot and (session.output or session.destination.url):
            self.add(self._own())

    def list(self) -> list[SnapshotOutput]:
        """Return the outputs there are."""
        return list(self._outputs)

    def add(self, output: SnapshotOutput) -> SnapshotOutput:
        """Add an output; return it with its id and name."""
        _check(output)
        if not output.path:
            raise UsageError("a snapshot output needs a directory, or the URL of a relay")
        if len(self._outputs) >= _MAX_OUTPUTS:
            raise CommandError(
                f"session {self._session.name} has a snapshot output already: remove it with "
                "`drtrace snapshot del-output` first"
            )
        number = self._next_id
        self._next_id += 1
        name = output.name or f"snapshot-{number}"
        self._outputs.append(msgspec.structs.replace(output, id=number, name=name))
        return self._outputs[-1]

    def remove(self, key: str) -> None:
        """Remove an output by its id or name."""
        for output in self._outputs:
            if key in (str(output.id), output.name):
                self._outputs.remove(output)
                return
        raise CommandError(f"session {self._session.name} has no snapshot output {key}")

    def place(self, wanted: SnapshotOutput) -> SnapshotPlace:
        """Return the directory of the next snapshot, in LTTng's words."""
        _check(wanted)
        known = self._outputs[0] if self._outputs else SnapshotOutput()
        if wanted.path:
            # Nobody's output: LTTng gives it the number 0.
            base = SnapshotOutput(
                path=wanted.path,
                data_url=wanted.data_url,
                name="snapshot-0",
                max_size=known.max_size,
            )
        elif known.path:
            base = known
        else:
            # One in snapshot mode had its output as its own, until that was removed.
            own = SnapshotOutput() if self._session.snapshot else self._own()
            base = msgspec.structs.replace(own, name="snapshot-0")
        if not base.path:
            raise CommandError(
                f"session {self._session.name} has no snapshot output: add one with "
                "`drtrace snapshot add-output`, or name a directory"
            )
        number = self._taken
        self._taken += 1
        now = datetime.datetime.now()
        name = f"{wanted.name or base.name}-{now:%Y%m%d-%H%M%S}-{number}"
        max_size = wanted.max_size or base.max_size
        if is_relay_url(base.path):
            return SnapshotPlace(
                path="", max_size=max_size, url=base.path, data_url=base.data_url, name=name
            )
        first = path = os.path.join(base.path, name)
        again = 1
        # A session of this name was there a moment ago.
        while os.path.lexists(path):
            again += 1
            path = f"{first}-{again}"
        return SnapshotPlace(path=path, max_size=max_size)

    def _own(self) -> SnapshotOutput:
        """Return the session's own output: its directory, else its relay."""
        session = self._session
        if session.output:
            return SnapshotOutput(path=session.output)
        return SnapshotOutput(path=session.destination.url, data_url=session.destination.data_url)
