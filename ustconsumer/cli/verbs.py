# SPDX-License-Identifier: MIT
"""The verbs of ``drtrace``: a row each. To add one: a row here, a file beside this one."""

from __future__ import annotations

__all__ = ["VERBS", "Verb"]


class Verb:
    """A verb lives in the module of its name, with ``_`` for ``-`` and for a space.

    The module has ``configure(parser)``, which adds its options, and
    ``run(arguments, context)``, which returns an exit status or ``None`` for success. It may
    have ``OWN_OPTIONS``, short names of general options that it means otherwise, and
    ``prepare(argv)``, which returns the arguments in a form that argparse understands.

    Parameters
    ----------
    section, summary : str
        Where and how ``--help`` lists it.
    failure : int
        Exit status of our own failures and of wrong options.
    """

    def __init__(self, section: str, summary: str, failure: int = 1) -> None:
        self.section = section
        self.summary = summary
        self.failure = failure


VERBS = {
    "record": Verb("Recording", "Run a command and record it", failure=125),
    "create": Verb("Recording sessions", "Create a recording session"),
    "destroy": Verb("Recording sessions", "Destroy recording sessions"),
    "set-session": Verb("Recording sessions", "Set the current recording session"),
    "save": Verb("Recording sessions", "Save recording sessions to files"),
    "load": Verb("Recording sessions", "Make recording sessions that were saved"),
    "enable-channel": Verb("Channels", "Create a channel"),
    "set-options": Verb("Channels", "Change attributes of channels, as far as they can change"),
    "disable-channel": Verb("Channels", "Disable channels"),
    "add-context": Verb("Channels", "Add context fields to be recorded"),
    "enable-event": Verb("Recording event rules", "Create recording event rules"),
    "disable-event": Verb("Recording event rules", "Disable recording event rules"),
    "track": Verb("Recording event rules", "Record only some programs"),
    "untrack": Verb("Recording event rules", "Leave programs out"),
    "start": Verb("Control", "Start a recording session"),
    "stop": Verb("Control", "Stop a recording session"),
    "pause": Verb("Control", "Pause a recording session until it is started again"),
    "regenerate metadata": Verb("Control", "Say anew what time it is in the metadata"),
    "regenerate statedump": Verb("Control", "Have programs record their state again"),
    "clear": Verb("Control", "Forget what was recorded so far"),
    "rotate": Verb("Rotations", "Have what was recorded so far as a trace of its own"),
    "enable-rotation": Verb("Rotations", "Rotate by time or by size"),
    "disable-rotation": Verb("Rotations", "Rotate by time or by size no more"),
    "consume": Verb("Control", "Start a consumer for a recording session that has none"),
    "snapshot record": Verb("Snapshots", "Write what is in the buffers of a recording session"),
    "snapshot add-output": Verb("Snapshots", "Say where snapshots of a recording session go"),
    "snapshot list-output": Verb("Snapshots", "Show where snapshots of a recording session go"),
    "snapshot del-output": Verb("Snapshots", "Remove the snapshot output of a recording session"),
    "add-trigger": Verb("Triggers", "Have something done when an event matches"),
    "list-triggers": Verb("Triggers", "List triggers, and how often they fired"),
    "remove-trigger": Verb("Triggers", "Remove a trigger"),
    "list": Verb("Status", "List recording sessions"),
    "status": Verb("Status", "Show the status of the current recording session"),
    "apps": Verb("Status", "List registered programs, and why one is not traced"),
    "view": Verb("Miscellaneous", "Show the events of a trace"),
    "unpack": Verb("Miscellaneous", "Write a compressed trace as a plain one"),
    "recover": Verb("Miscellaneous", "Write what is left in buffers after a crash as a trace"),
    "completion": Verb("Miscellaneous", "Print what has a shell complete command lines"),
    "version": Verb("Miscellaneous", "Show version information"),
}
