# SPDX-License-Identifier: MIT
"""Handles: the numbers by which a registry names what it made in this process."""

from __future__ import annotations

import errno

__all__ = ["Handles", "MisuseError", "Node"]

#: A registry has some handles per session and channel; more are a mistake of its.
_MAX_HANDLES = 1 << 20


class MisuseError(Exception):
    """A command that cannot be obeyed; ``error`` is the errno of the answer."""

    def __init__(self, error: int):
        super().__init__(errno.errorcode.get(error, str(error)))
        self.error = error


class Node:
    """Something with a handle. It lives as long as its handle, or that of a child, does."""

    handle = 0

    def destroy(self) -> None:
        """Let go of everything: no handle leads here any more."""


class _Entry:
    """A handle in use. ``held`` until it was released; ``references`` counts that and children."""

    __slots__ = ("held", "node", "parent", "references")

    def __init__(self, node: Node, parent: _Entry | None):
        self.node = node
        self.parent = parent
        self.held = True
        self.references = 1


class Handles:
    """The handles of one connection. Number 0 is the process, which is always there.

    Free numbers are given out again, the last one freed first, as liblttng-ust does.
    """

    def __init__(self, root: Node) -> None:
        self._entries: list[_Entry | None] = [_Entry(root, None)]
        self._free: list[int] = []

    def get(self, number: int) -> Node | None:
        """Return what has a handle, None if nothing."""
        entry = self._entry(number)
        return None if entry is None else entry.node

    def add(self, node: Node, parent: Node | None = None) -> int:
        """Give something a handle and return it."""
        holder = None if parent is None else self._entry(parent.handle)
        if holder is not None:
            holder.references += 1
        entry = _Entry(node, holder)
        if self._free:
            node.handle = self._free.pop()
            self._entries[node.handle] = entry
        elif len(self._entries) >= _MAX_HANDLES:
            raise MisuseError(errno.ENOMEM)
        else:
            node.handle = len(self._entries)
            self._entries.append(entry)
        return node.handle

    def release(self, number: int) -> None:
        """Give a handle back.

        Raises
        ------
        MisuseError
            That of the process, or one that was given back and is kept by its children.
        """
        entry = self._entry(number)
        if number == 0 or entry is None:
            raise MisuseError(errno.EPERM)
        if not entry.held:
            raise MisuseError(errno.EINVAL)
        entry.held = False
        self._drop(entry)

    def clear(self) -> None:
        """Destroy everything, children first."""
        entries = [entry for entry in self._entries if entry is not None]
        self._entries = self._entries[:1]
        self._free = []
        depths = {id(entry): _depth(entry) for entry in entries}
        for entry in sorted(entries, key=lambda entry: depths[id(entry)], reverse=True):
            entry.node.destroy()

    def _entry(self, number: int) -> _Entry | None:
        return self._entries[number] if 0 <= number < len(self._entries) else None

    def _drop(self, entry: _Entry | None) -> None:
        while entry is not None:
            entry.references -= 1
            if entry.references:
                return
            self._entries[entry.node.handle] = None
            self._free.append(entry.node.handle)
            entry.node.destroy()
            entry = entry.parent


def _depth(entry: _Entry) -> int:
    return 0 if entry.parent is None else 1 + _depth(entry.parent)
