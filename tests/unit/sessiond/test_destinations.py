# SPDX-License-Identifier: MIT
"""Where a new session's packets may go."""

from __future__ import annotations

from typing import Any

import pytest

from sessiond.destinations import check_destination
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import CreateSession, Destination

URL = "net://127.0.0.1"
TLS = "net+tls://127.0.0.1"


def check(output: str, snapshot: bool, **wanted: Any) -> None:
    destination = Destination(**wanted)
    check_destination(
        CreateSession(name="s", output=output, snapshot=snapshot, destination=destination)
    )


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"url": URL},
        {"url": URL, "live_us": 1},
        {"url": URL, "live_us": (1 << 32) - 1},
        {"url": URL, "zstd": 22, "spool": "/s", "spool_size": 1},
        {"url": URL, "data_url": "tcp://127.0.0.2:1", "token_file": "/t"},
        {"url": TLS, "ca_file": "/c", "cert_file": "/m", "key_file": "/k"},
        {"zstd": 1},
    ],
)
def test_taken(wanted: dict[str, Any]) -> None:
    check("/trace", False, **wanted)


def test_a_relay_alone_is_a_place() -> None:
    check("", False, url=URL)
    check("", True, url=URL)
    check("/trace", True)


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        ({"url": "tcp://h"}, "no URL of a relay"),
        ({"url": URL, "data_url": "net://h"}, "no URL of a port"),
        ({"data_url": "tcp://h"}, "say its URL"),
        ({"live_us": 1}, "say its URL"),
        ({"spool": "/s"}, "say its URL"),
        ({"token_file": "/t"}, "say its URL"),
        ({"url": URL, "live_us": -1}, "live timer"),
        ({"url": URL, "live_us": 1 << 32}, "live timer"),
        ({"zstd": 23}, "zstd level 23"),
        ({"zstd": -1}, "zstd level -1"),
        ({"url": URL, "spool": "s"}, "not absolute"),
        ({"url": URL, "token_file": "t"}, "not absolute"),
        ({"url": TLS, "ca_file": "c"}, "not absolute"),
        ({"url": URL, "spool": "/s", "spool_size": -1}, "spool of -1"),
        ({"url": URL, "spool_size": 1}, "a directory"),
        ({"url": TLS, "key_file": "/k"}, "key of a certificate"),
        ({"url": URL, "ca_file": "/c"}, "net+tls://"),
    ],
)
def test_refused(wanted: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError) as refused:
        check("/trace", False, **wanted)
    assert word in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("output", "wanted", "word"),
    [
        ("", {"url": URL, "live_us": 1}, "mutually exclusive"),
        ("/trace", {"url": URL}, "choose one"),
        ("", {"url": URL, "spool": "/s"}, "snapshot mode"),
        ("/trace", {"zstd": 1}, "snapshot mode"),
    ],
)
def test_refused_in_snapshot_mode(output: str, wanted: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        check(output, True, **wanted)


def test_a_name_that_no_relay_takes() -> None:
    hidden = CreateSession(name=".s", output="/trace", destination=Destination())
    check_destination(hidden)
    hidden.destination = Destination(url=URL)
    with pytest.raises(UsageError, match="leading dot"):
        check_destination(hidden)


def test_no_file_to_compress() -> None:
    with pytest.raises(UsageError, match="zstd is for the files"):
        check("", False, url=URL, zstd=1)
