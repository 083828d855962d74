# SPDX-License-Identifier: MIT
"""Names and directories of recorded commands, with a relay and without."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ustconsumer.client.places import check_sent, session_place
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Destination

RELAY = Destination(url="net://h")
HERE = Destination()


def test_of_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTTNG_HOME", str(tmp_path))
    name, place = session_place(Path("/bin/prog"), None, HERE)
    assert re.fullmatch(r"prog-\d{8}-\d{6}", name)
    assert place == tmp_path / "lttng-traces" / name
    _, place = session_place(Path("/bin/prog"), tmp_path / "given", HERE)
    assert place == tmp_path / "given"


def test_of_a_relay(tmp_path: Path) -> None:
    # The relay adds the time of its own.
    name = f"prog-{os.getpid()}"
    assert session_place(Path("/bin/prog"), None, RELAY) == (name, None)
    assert session_place(Path("/bin/.prog"), tmp_path, RELAY) == (name, tmp_path)


def test_what_is_not_sent() -> None:
    check_sent(HERE, flight=True, direct=True)
    check_sent(RELAY, flight=False, direct=False)
    with pytest.raises(UsageError, match="flight recorder"):
        check_sent(RELAY, flight=True, direct=False)
    with pytest.raises(UsageError, match="--direct"):
        check_sent(RELAY, flight=False, direct=True)
    with pytest.raises(UsageError, match="no URL"):
        check_sent(Destination(url="tcp://h"), flight=False, direct=False)
