# SPDX-License-Identifier: MIT
"""A recording session in this process: inactive, or recording what its channels' rules say."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ustconsumer.ctf.types import EnumEntry
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol.notify import EnumRequest
from ustconsumer.tracer.blob import parse_blob
from ustconsumer.tracer.channel import Channel
from ustconsumer.tracer.objects import MisuseError, Node
from ustconsumer.tracer.registrar import RefusedError
from ustconsumer.tracer.rules import Rule

if TYPE_CHECKING:
    from ustconsumer._native import emit
    from ustconsumer.tracer.describe import Described
    from ustconsumer.tracer.registrar import Registrar

__all__ = ["EventRule", "Session"]


class EventRule(Rule):
    """A rule of one channel."""

    channel: Channel

    def destroy(self) -> None:
        """Record nothing on its behalf any more."""
        self.enabled = False
        self.channel.session.drop_rule(self)


class Session(Node):
    """A session, inactive when new.

    Parameters
    ----------
    registrar : Registrar
    tracepoints : callable
        Returns all declared ones, in order.
    bind : callable
        To be called with each tracepoint of which who records it has changed.
    siblings : list of Session
        Of the same registry; this one is in it as long as it lives.

    Attributes
    ----------
    dump_pending : bool
        It was made active, or asked for its state dump, and had none since.
    """

    def __init__(
        self,
        registrar: Registrar,
        tracepoints: Callable[[], list[Described]],
        bind: Callable[[Described], None],
        siblings: list[Session],
    ):
        self.active = False
        self.dump_pending = False
        self.channels: list[Channel] = []
        self._been_active = False
        self._uuid: bytes | None = None
        self._enums: dict[tuple[str, tuple[EnumEntry, ...]], int] = {}
        self._registrar = registrar
        self._tracepoints = tracepoints
        self._bind = bind
        self._siblings = siblings
        siblings.append(self)

    # -- what it is made of ----------------------------------------------------------------

    def add_channel(self, blob: bytes, fds: list[int]) -> Channel:
        """Make a channel of its object; takes the descriptor.

        Raises
        ------
        MisuseError
            The session was active already, or the object makes no sense. The descriptor
            is the caller's still.
        """
        if self._been_active:
            raise MisuseError(errno.EBUSY)
        try:
            made = parse_blob(blob)
        except RemoteProtocolError:
            raise MisuseError(errno.EINVAL) from None
        if self._uuid not in (None, made.uuid):
            raise MisuseError(errno.EINVAL)
        self._uuid = made.uuid
        channel = Channel(self, made, fds[0])
        fds.clear()
        self.channels.append(channel)
        return channel

    def add_context(self, channel: Channel, name: str) -> None:
        """Have a channel's events carry a context: only before any can be recorded."""
        if self._been_active:
            raise MisuseError(errno.EPERM)
        channel.add_context(name)

    def add_rule(self, channel: Channel, rule: EventRule) -> None:
        """Add a rule to a channel; it does nothing until it is enabled."""
        rule.channel = channel
        channel.rules.append(rule)

    def drop_rule(self, rule: EventRule) -> None:
        """Forget a rule."""
        changed = self._wanted_by(rule)
        rule.channel.drop_rule(rule)
        self._rebind(changed)

    def drop_channel(self, channel: Channel) -> None:
        """Forget a channel; nothing is recorded there since its rules, its children, are gone."""
        if channel in self.channels:
            self.channels.remove(channel)

    def enroll(self, name: str, entries: tuple[EnumEntry, ...]) -> int:
        """Return the id of an enumeration, which the registry is told once."""
        key = (name, entries)
        if key not in self._enums:
            request = EnumRequest(self.handle, name, entries)
            self._enums[key] = self._registrar.enum(request)
        return self._enums[key]

    # -- on and off ------------------------------------------------------------------------

    def enable(self) -> None:
        """Register events, then channels; then record.

        Raises
        ------
        MisuseError
            It is active, or the registry refuses a channel.
        """
        if self.active:
            raise MisuseError(errno.EBUSY)
        try:
            ready = [channel for channel in self.channels if channel.ready]
            for channel in ready:
                channel.match(channel.rules, self._tracepoints(), self._registrar)
            for channel in ready:
                channel.register(self._registrar)
        except RefusedError as error:
            raise MisuseError(-error.code) from None
        except (OSError, RemoteProtocolError):
            raise MisuseError(errno.EIO) from None
        self.active = self._been_active = True
        self._rebind(self._recorded())
        self.dump_pending = True

    def disable(self) -> None:
        """Record nothing until the next `enable`."""
        if not self.active:
            raise MisuseError(errno.EBUSY)
        self.active = False
        self._rebind(self._recorded())

    def enable_channel(self, channel: Channel, enabled: bool) -> None:
        """Enable or disable a channel."""
        if channel.enabled == enabled:
            raise MisuseError(errno.EBUSY)
        channel.enabled = enabled
        self._rebind([event.declared for event in channel.events.values()])

    def rule_changed(self, rule: EventRule) -> None:
        """Heed what a rule got, a filter for example."""
        if self.active:
            try:
                rule.channel.match([rule], self._tracepoints(), self._registrar)
            except (OSError, RemoteProtocolError):
                # The connection ends, and everything with it.
                return
        self._rebind(self._wanted_by(rule))

    def destroy(self) -> None:
        """Record nothing any more. Its channels are gone: they are its children."""
        self.active = self.dump_pending = False
        self._siblings.remove(self)

    # -- tracepoints that come and go ------------------------------------------------------

    def added(self, declared: Described) -> None:
        """Match a new tracepoint; the caller binds it."""
        if not self.active:
            return
        try:
            for channel in self.channels:
                channel.match(channel.rules, [declared], self._registrar)
        except (OSError, RemoteProtocolError):
            return

    def removed(self, declared: Described) -> None:
        """Forget a tracepoint."""
        for channel in self.channels:
            channel.drop_event(declared)

    def recorders(self, declared: Described) -> list[emit.Recorder]:
        """Return who records a tracepoint now: one per channel that wants it."""
        if not self.active:
            return []
        found = (channel.recorder(declared) for channel in self.channels)
        return [recorder for recorder in found if recorder is not None]

    # -- shorthand -------------------------------------------------------------------------

    def _recorded(self) -> list[Described]:
        return [event.declared for channel in self.channels for event in channel.events.values()]

    def _wanted_by(self, rule: EventRule) -> list[Described]:
        return [event.declared for event in rule.channel.events.values() if rule in event.rules]

    def _rebind(self, changed: Iterable[Described]) -> None:
        for declared in changed:
            self._bind(declared)
