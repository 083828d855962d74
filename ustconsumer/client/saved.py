# SPDX-License-Identifier: MIT
"""A recording session without its registry: what can be saved of it, and made again.

How it is asked for and made is the same for both front-ends, see `ustconsumer.client.exchange`.
"""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass, field

from ustconsumer.client import registryrequests as registry
from ustconsumer.client import sessionrequests as session
from ustconsumer.client.exchange import Exchange
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import (
    ChannelInfo,
    Destination,
    EventInfo,
    RotationSchedule,
    SnapshotOutput,
)

__all__ = ["SavedSession", "describe", "make"]

#: The directory of one session below the one that was asked for. The next gets its own there.
_DATED = re.compile(r"(?<=.)/[^/]+-\d{8}-\d{6}(-\d+)?$")


@dataclass
class SavedSession:
    """What makes a session; field names are those of `SessionInfo`.

    Attributes
    ----------
    started : bool
        It records, or did when it was saved.
    outputs : list of SnapshotOutput
    warnings : list of str
        What could not be said, or understood, one line each.
    """

    name: str
    output: str = ""
    destination: Destination = field(default_factory=Destination)
    snapshot: bool = False
    shm_path: str = ""
    started: bool = False
    rotation: RotationSchedule = field(default_factory=RotationSchedule)
    trackers: dict[str, list[str]] = field(default_factory=dict)
    channels: list[ChannelInfo] = field(default_factory=list)
    outputs: list[SnapshotOutput] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def describe(name: str) -> Exchange[SavedSession]:
    """Return what a session of the registry is made of."""
    info = yield from session.info(name)
    return SavedSession(
        name=info.name,
        output=info.output,
        destination=info.destination,
        snapshot=info.snapshot,
        shm_path=info.shm_path,
        started=info.state == "active",
        rotation=info.rotation,
        trackers=info.trackers,
        channels=info.channels,
        outputs=(yield from session.snapshot_outputs(name)),
    )


def make(saved: SavedSession, *, replace: bool = False) -> Exchange[None]:
    """Make a session that was saved, see `Registry.load`."""
    if replace:
        try:
            yield from session.destroy(saved.name)
        except CommandError as error:
            if error.kind != "no-such-session":
                raise
    yield from registry.create(
        saved.name,
        saved.output,
        snapshot=saved.snapshot,
        shm_path=_DATED.sub("", os.path.normpath(saved.shm_path)) if saved.shm_path else None,
        destination=saved.destination,
    )
    try:
        yield from _equip(saved)
    except BaseException:
        yield from session.destroy(saved.name)
        raise
    if saved.started:
        saved.warnings += yield from session.start(saved.name)


def _equip(saved: SavedSession) -> Exchange[None]:
    name = saved.name
    for channel in saved.channels:
        yield from session.enable_channel(name, channel.name, channel.options)
        if channel.contexts:
            yield from session.add_context(name, channel.contexts, channel.name)
        for event in channel.events:
            yield from session.enable_event(
                name,
                event.pattern,
                channel.name,
                loglevel_type=event.loglevel_type,
                loglevel=event.loglevel,
                exclusions=event.exclusions,
                filter=event.filter or None,
                domain=event.domain,
            )
        for event in channel.events:
            if not event.enabled:
                yield from _disable(saved, channel, event)
        if not channel.enabled:
            yield from session.disable_channel(name, channel.name)
    for attribute, values in saved.trackers.items():
        yield from session.untrack(name, attribute)
        for value in values:
            try:
                yield from session.track(name, attribute, value)
            except (CommandError, UsageError) as error:
                saved.warnings.append(str(error))
    for output in saved.outputs:
        yield from session.add_snapshot_output(
            name,
            output.path,
            name=output.name,
            max_size=output.max_size,
            data_url=output.data_url,
        )
    if saved.rotation != RotationSchedule():
        yield from session.enable_rotation(
            name, timer_us=saved.rotation.timer_us, size=saved.rotation.size
        )


def _disable(saved: SavedSession, channel: ChannelInfo, disabled: EventInfo) -> Exchange[None]:
    """Disable a rule; of rules with one pattern all are, or none."""
    pattern = disabled.pattern
    if any(event.enabled for event in channel.events if event.pattern == pattern):
        saved.warnings.append(
            f"event {pattern} of channel {channel.name} is enabled: another rule with that "
            "pattern is"
        )
        return
    yield from session.disable_event(saved.name, [pattern], channel.name, domain=disabled.domain)
