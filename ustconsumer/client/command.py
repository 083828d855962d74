# SPDX-License-Identifier: MIT
"""Waiting for the recorded command."""

from __future__ import annotations

import os

from ustconsumer.client.signals import CommandSignals
from ustconsumer.client.watch import Watch

__all__ = ["wait"]


def wait(child: int, watch: Watch, signals: CommandSignals) -> int:
    """Wait until a child process ends; return its exit status, 128 + n for signal n.

    Parameters
    ----------
    child : int
        Process id.
    watch : Watch
        Has the rest done meanwhile.
    signals : CommandSignals
        Told when the process id is to be used no more.
    """
    handle = os.pidfd_open(child)
    try:
        while not watch.wait((handle,)):
            watch.reap_orphans(child)
    finally:
        os.close(handle)
    # From here on the number could be another process's.
    signals.ended()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
