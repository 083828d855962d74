# SPDX-License-Identifier: MIT
"""A recording session without its registry: what can be saved of it, and made again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import (
    ChannelInfo,
    Destination,
    RotationSchedule,
    SnapshotOutput,
)

if TYPE_CHECKING:
    from ustconsumer.client.registry import Registry
    from ustconsumer.client.session import Session

__all__ = ["SavedSession", "describe", "make"]


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


def describe(session: Session) -> SavedSession:
    """Return what a session of a registry is made of."""
    info = session.info()
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
        outputs=session.snapshot_outputs(),
    )


def make(registry: Registry, saved: SavedSession) -> Session:
    """Make a session that was saved; it is started if it was.

    What a rule or a tracker cannot be any more is noted in its ``warnings``.

    Raises
    ------
    CommandError
        There is one of that name, or the registry refuses what it is made of: nothing is left
        of it.
    """
    session = registry.create(
        saved.name,
        saved.output,
        snapshot=saved.snapshot,
        shm_path=saved.shm_path or None,
        destination=saved.destination,
    )
    try:
        _equip(session, saved)
    except BaseException:
        session.destroy()
        raise
    if saved.started:
        saved.warnings += session.start()
    return session


def _equip(session: Session, saved: SavedSession) -> None:
    for channel in saved.channels:
        session.enable_channel(channel.name, channel.options)
        if channel.contexts:
            session.add_context(channel.contexts, channel.name)
        for event in channel.events:
            session.enable_event(
                event.pattern,
                channel.name,
                loglevel_type=event.loglevel_type,
                loglevel=event.loglevel,
                exclusions=event.exclusions,
                filter=event.filter or None,
            )
        for event in channel.events:
            if not event.enabled:
                _disable(session, channel, event.pattern, saved)
        if not channel.enabled:
            session.disable_channel(channel.name)
    for attribute, values in saved.trackers.items():
        session.untrack(attribute)
        for value in values:
            try:
                session.track(attribute, value)
            except (CommandError, UsageError) as error:
                saved.warnings.append(str(error))
    for output in saved.outputs:
        session.add_snapshot_output(
            output.path, name=output.name, max_size=output.max_size, data_url=output.data_url
        )
    if saved.rotation != RotationSchedule():
        session.enable_rotation(timer_us=saved.rotation.timer_us, size=saved.rotation.size)


def _disable(session: Session, channel: ChannelInfo, pattern: str, saved: SavedSession) -> None:
    """Disable a rule; of rules with one pattern all are, or none."""
    if any(event.enabled for event in channel.events if event.pattern == pattern):
        saved.warnings.append(
            f"event {pattern} of channel {channel.name} is enabled: another rule with that "
            "pattern is"
        )
        return
    session.disable_event([pattern], channel.name)
