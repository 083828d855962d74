# SPDX-License-Identifier: MIT
"""Which options `lttng` and `drtrace` share, and where what they record is compared.

A verb that gets another option of `lttng`'s, or one whose test is gone, fails here.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from pathlib import Path

import pytest

from ustconsumer.cli import main

pytestmark = pytest.mark.peers("lttng")

#: These choose what a verb speaks of; nearly all comparing tests say them.
_CHOICE = frozenset({"--help", "--session", "--userspace", "--channel"})
#: Tests whose events, or chunks of events, are the peer's own; in this directory.
_SAME = "test_same_options.py"
_RUN = "test_runtime_verbs.py"
_RELAY = "test_rotations_relay.py"
_FILES = "test_tracefiles.py"
_PYTHON = "test_python_logging.py"
#: Behind these words: why the option has no part in what events there are.
_NO = "no events: "
_FILE = _NO + "of a file with a session's description, which tests of saved sessions compare"
_RELAYS = "test_same_at_relays.py"

SHARED: dict[str, dict[str, str]] = {
    "create": {
        "--ctrl-url": _RELAYS + " --ctrl-url",
        "--data-url": _RELAYS + " --data-url",
        "--live": _RELAYS + " --live",
        "--no-output": _NO + "there is nowhere to write them",
        "--output": _SAME,
        "--set-url": _RELAY,
        "--shm-path": _SAME,
        "--snapshot": _SAME,
    },
    "destroy": {"--all": _NO + "chooses sessions to end"},
    "list": {"--python": _NO + "only shows"},
    "save": {"--all": _FILE, "--force": _FILE, "--output-path": _FILE},
    "load": {
        "--all": _FILE,
        "--force": _FILE,
        "--input-path": "test_saved_sessions.py",
        "--override-name": _FILE,
        "--override-url": "test_saved_sessions.py",
    },
    "clear": {"--all": _NO + "chooses sessions to clear"},
    "rotate": {"--no-wait": _RELAY},
    "view": {"--trace-path": _NO + "reads what is recorded"},
    "enable-channel": {
        "--blocking-timeout": _SAME,
        "--buffers-pid": _SAME,
        "--buffers-uid": _SAME,
        "--discard": _SAME,
        "--monitor-timer": _SAME,
        "--num-subbuf": _SAME,
        "--overwrite": _SAME,
        "--read-timer": _SAME,
        "--subbuf-size": _SAME,
        "--switch-timer": _SAME,
        "--tracefile-count": _FILES,
        "--tracefile-size": _FILES,
    },
    "enable-event": {
        "--all": _SAME,
        "--exclude": _SAME,
        "--filter": _SAME,
        "--loglevel": _SAME,
        "--loglevel-only": _SAME,
        "--python": _PYTHON,
    },
    "add-context": {"--list": _NO + "only shows", "--type": _SAME},
}
SHARED |= {
    "disable-event": {
        "--all": _RUN,
        "--all-events": _RUN,
        "--python": _PYTHON,
    },
    "track": {"--all": _RUN, "--pid": _RUN, "--vgid": _RUN, "--vpid": _RUN, "--vuid": _RUN},
    "untrack": {"--all": _RUN, "--pid": _RUN, "--vgid": _RUN, "--vpid": _RUN, "--vuid": _RUN},
    "enable-rotation": {"--size": _RELAYS + " --size", "--timer": _RELAYS + " --timer"},
    "disable-rotation": {"--size": _RELAYS + " --size", "--timer": _RELAYS + " --timer"},
    "add-trigger": dict.fromkeys(
        ("--action", "--condition", "--name", "--owner-uid"), _NO + "a trigger records none"
    ),
    "remove-trigger": {"--owner-uid": _NO + "a trigger records none"},
    "snapshot record": {
        "--ctrl-url": _RELAYS + " --ctrl-url",
        "--data-url": _RELAYS + " --data-url",
        "--max-size": _RELAYS + " --max-size",
        "--name": "test_snapshot_verbs.py",
    },
    "snapshot add-output": {
        "--ctrl-url": _RELAYS + " --ctrl-url",
        "--data-url": _RELAYS + " --data-url",
        "--max-size": "test_snapshot_verbs.py",
        "--name": "test_snapshot_verbs.py",
    },
}
#: Those that share nothing but the choice of what they speak of.
_PLAIN = (
    *("start", "stop", "status", "set-session", "disable-channel", "list-triggers", "version"),
    *("snapshot list-output", "snapshot del-output", "regenerate metadata", "regenerate statedump"),
)
VERBS = (*SHARED, *_PLAIN)


def ours(verb: str) -> set[str]:
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        main([*verb.split(), "--help"])
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", told.getvalue()))


def theirs(verb: str) -> set[str]:
    command = ["lttng", *verb.split(), "--list-options"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(re.findall(r"--[a-z][a-z-]+", done.stdout))


@pytest.mark.parametrize("verb", VERBS)
def test_each_shared_option_has_its_place(verb: str) -> None:
    peers = theirs(verb)
    assert "--help" in peers
    assert (ours(verb) & peers) - _CHOICE == set(SHARED.get(verb, ())) - _CHOICE


@pytest.mark.parametrize("verb", SHARED)
def test_each_place_says_the_option_on_both_sides(verb: str) -> None:
    for option, place in SHARED[verb].items():
        if place.startswith(_NO):
            continue
        name, _, word = place.partition(" ")
        text = Path(__file__).with_name(name).read_text()
        assert "helpers.lttng import" in text or "helpers.sides import" in text, name
        assert (word or option.removeprefix("--")) in text, (option, name)
