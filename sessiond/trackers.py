# SPDX-License-Identifier: MIT
"""Which programs a session records: its trackers, one for each attribute of a process."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ustconsumer.errors import CommandError, UsageError

__all__ = ["ATTRIBUTES", "Program", "Tracker", "Trackers"]

_MAX_VALUES = 4096
_MAX_NUMBER = (1 << 63) - 1


@dataclass(frozen=True)
class Program:
    """What trackers look at: the kernel's word, but for the pid, which is the program's own.

    Attributes
    ----------
    vpid : int
        Its pid where it runs, which may be a container.
    """

    vpid: int
    uid: int
    gid: int
    name: str


def _uid_of(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid_of(name: str) -> int:
    return grp.getgrnam(name).gr_gid


@dataclass(frozen=True)
class _Attribute:
    """An attribute of processes: LTTng's word for it, and how a value of it is looked up."""

    title: str
    #: what a program has
    of: Callable[[Program], int | str]
    #: how a name becomes a number, and what it is a name of; None: values are no names
    named: tuple[str, Callable[[str], int]] | None = None
    #: values are patterns of names
    patterns: bool = False


ATTRIBUTES = {
    "vpid": _Attribute("virtual process ID", lambda program: program.vpid),
    "vuid": _Attribute("virtual user ID", lambda program: program.uid, ("User", _uid_of)),
    "vgid": _Attribute("virtual group ID", lambda program: program.gid, ("Group", _gid_of)),
    "name": _Attribute("program name", lambda program: program.name, patterns=True),
}


@dataclass
class Tracker:
    """One attribute's inclusion set.

    Attributes
    ----------
    values : dict of str to int or str, or None
        What is included, as it was said, with the number it stands for; None: everything.
    """

    attribute: str
    values: dict[str, int | str] | None = None

    @property
    def _rules(self) -> _Attribute:
        return ATTRIBUTES[self.attribute]

    def add(self, value: str) -> None:
        """Include a value; where everything was, only it is now. Empty: everything.

        Raises
        ------
        CommandError
            It is included already, or nobody has that name.
        UsageError
            It is no value of this attribute.
        """
        if not value:
            self.values = None
            return
        number = self._number(value)
        values = {} if self.values is None else self.values
        if value in values:
            raise CommandError(f"{_shown(value)} is already in the {self._set()}", "already")
        if len(values) >= _MAX_VALUES:
            raise CommandError(f"the {self._set()} has {_MAX_VALUES} values: no more fit")
        values[value] = number
        self.values = values

    def remove(self, value: str) -> None:
        """Leave a value out. Empty: everything.

        Raises
        ------
        CommandError
            It is not included by itself, or nobody has that name.
        UsageError
            It is no value of this attribute.
        """
        if not value:
            self.values = {}
            return
        self._number(value)
        if self.values is None:
            raise CommandError(
                f"the {self._rules.title} tracker includes everything: leave that out first "
                f"(untrack --{self.attribute} --all)",
                "already",
            )
        if value not in self.values:
            raise CommandError(f"{_shown(value)} is not in the {self._set()}", "already")
        del self.values[value]

    def includes(self, program: Program) -> bool:
        """Return whether a program is tracked as far as this attribute goes."""
        if self.values is None:
            return True
        mine = self._rules.of(program)
        if self._rules.patterns:
            return any(fnmatchcase(str(mine), _pattern(value)) for value in self.values)
        return mine in self.values.values()

    def _set(self) -> str:
        return f"{self._rules.title} inclusion set"

    def _number(self, value: str) -> int | str:
        rules = self._rules
        if rules.patterns:
            if not value.isprintable() or len(value) > 255:
                raise UsageError(f"{value!r} is no pattern of a program's name")
            return value
        if value.isascii() and value.isdigit():
            if int(value) > _MAX_NUMBER:
                raise UsageError(f"{value}: no {rules.title} is so large")
            return int(value)
        if rules.named is None:
            raise UsageError(f"{value!r} is no {rules.title}: use a number")
        what, look_up = rules.named
        try:
            return look_up(value)
        except (KeyError, ValueError):
            raise CommandError(f"{what} `{value}` was not found") from None


@dataclass
class Trackers:
    """All trackers of a session; a program is recorded if every one includes it."""

    by_attribute: dict[str, Tracker] = field(
        default_factory=lambda: {name: Tracker(name) for name in ATTRIBUTES}
    )

    def __getitem__(self, attribute: str) -> Tracker:
        try:
            return self.by_attribute[attribute]
        except KeyError:
            known = ", ".join(ATTRIBUTES)
            raise UsageError(f"unknown attribute {attribute!r}: use one of {known}") from None

    def excluding(self, program: Program) -> list[str]:
        """Return the words for the trackers that leave a program out."""
        return [
            f"{ATTRIBUTES[name].title} tracker"
            for name, tracker in self.by_attribute.items()
            if not tracker.includes(program)
        ]

    def info(self) -> dict[str, list[str]]:
        """Return what is included, of the attributes of which not everything is."""
        return {
            name: list(tracker.values)
            for name, tracker in self.by_attribute.items()
            if tracker.values is not None
        }


def _shown(value: str) -> str:
    # As with LTTng: a name stands in quotes, a number does not.
    return value if value.isdigit() else f"`{value}`"


def _pattern(text: str) -> str:
    # Only the star is special, as in names of events.
    return text.replace("[", "[[]").replace("?", "[?]")
