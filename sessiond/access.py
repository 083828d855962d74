# SPDX-License-Identifier: MIT
"""Who may do what: decisions about uids, no I/O but the group database."""

from __future__ import annotations

import grp
import os
import pwd

__all__ = ["Access", "in_group"]


def in_group(uid: int, group: str) -> bool:
    """Return whether a uid belongs to a named group, primary or not."""
    try:
        gid = grp.getgrnam(group).gr_gid
        user = pwd.getpwuid(uid)
        return gid in os.getgrouplist(user.pw_name, user.pw_gid)
    except KeyError:
        return False


class Access:
    """The rules of one registry.

    Parameters
    ----------
    own_uid : int
        The account the registry runs under.
    everybody : bool
        The global registry, which programs of every uid register with.
    group : str
        Its members may have sessions on the global registry.
    """

    def __init__(self, own_uid: int, everybody: bool, group: str) -> None:
        self._own_uid = own_uid
        self._global = everybody
        self._group = group

    def may_control(self, uid: int) -> bool:
        """May this peer speak to the control socket?"""
        return uid in (0, self._own_uid) or self.is_tracer(uid)

    def is_tracer(self, uid: int) -> bool:
        """Is it a member of the tracing group, on a registry where that counts?"""
        return self._global and in_group(uid, self._group)

    def may_manage(self, uid: int, owner: int) -> bool:
        """May this peer see and change a session of ``owner``? The registry's account may."""
        return uid in (0, owner, self._own_uid)

    def may_see(self, uid: int, app_uid: int) -> bool:
        """May this peer know of an application? A tracer may of all."""
        return uid in (0, app_uid, self._own_uid)

    def may_register(self, uid: int) -> bool:
        """May programs of this uid register, where the kernel does not keep others out?"""
        return self._global or uid in (0, self._own_uid)

    def may_be_traced(self, uid: int) -> bool:
        """May programs of this uid register, should they reach the socket? Root's take all."""
        return self._own_uid == 0 or self.may_register(uid)

    def may_end(self, uid: int) -> bool:
        """May this peer end the registry?"""
        return uid in (0, self._own_uid)

    @staticmethod
    def may_join(app_uid: int, owner: int, owner_is_tracer: bool) -> bool:
        """Does an application of this uid belong into a session of ``owner``?"""
        return owner in (0, app_uid) or owner_is_tracer

    @staticmethod
    def may_map(uid: int, trace_uid: int) -> bool:
        """May this peer have writable pages of a trace of ``trace_uid``?"""
        return uid in (0, trace_uid)
