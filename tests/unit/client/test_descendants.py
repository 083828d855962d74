# SPDX-License-Identifier: MIT
"""Who is below a process."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from ustconsumer.client.descendants import below


def test_below(tmp_path: Path) -> None:
    """Children and theirs, whatever they are called; no zombies, not the group left out."""
    script = 'cp /bin/sleep "$0/a) R 1 1"; "$0/a) R 1 1" 600 & echo $!; exec cat'
    child = subprocess.Popen(
        ["sh", "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    try:
        # By now it is called cat.
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        found = {pid for pid, _ in below(os.getpid(), 0)}
        assert {child.pid, grandchild} <= found
        assert {pid for pid, _ in below(child.pid, 0)} == {grandchild}
        assert not {child.pid, grandchild} & {pid for pid, _ in below(os.getpid(), child.pid)}
    finally:
        os.kill(grandchild, signal.SIGKILL)
        child.stdin.close()
    # A zombie until it is waited for: not alive.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.pid not in {pid for pid, _ in below(os.getpid(), 0)}
    child.wait()
    child.stdout.close()
