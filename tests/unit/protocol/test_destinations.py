# SPDX-License-Identifier: MIT
"""Places on the network in the words of ``lttng`` 2.13."""

from __future__ import annotations

import pytest

from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Destination
from ustconsumer.protocol.destinations import is_relay_url, of_ports, relay_of, shown_relay


# What `lttng create` prints behind "Traces will be output to" for the same URLs.
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("net://127.0.0.1:6000:6001", "tcp4://127.0.0.1:6000/ [data: 6001]"),
        ("net://127.0.0.1", "tcp4://127.0.0.1:5342/ [data: 5343]"),
        ("net://127.0.0.1/a/b", "tcp4://127.0.0.1:5342/a/b [data: 5343]"),
        ("net6://[::1]:7000:7001", "tcp6://[::1]:7000/ [data: 7001]"),
        # Not LTTng's.
        ("net+tls+zstd://h:1:2/a", "net+tls+zstd://h:1:2/a"),
    ],
)
def test_shown_as_by_lttng(url: str, shown: str) -> None:
    assert shown_relay(Destination(url=url)) == shown


def test_a_snapshot_output_is_shown_without_the_data_port() -> None:
    shown = shown_relay(Destination(url="net://127.0.0.1:6000:6001"), data=False)
    assert shown == "tcp4://127.0.0.1:6000/"


@pytest.mark.parametrize(
    ("control", "data", "shown"),
    [
        ("tcp://127.0.0.1:6000", "tcp://127.0.0.1:6001", "tcp4://127.0.0.1:6000/ [data: 6001]"),
        ("tcp://h/sub", "tcp://h", "tcp4://h:5342/sub [data: 5343]"),
        ("tcp6://[::1]:1", "tcp6://[::1]:2", "tcp6://[::1]:1/ [data: 2]"),
        ("tcp://one:1", "tcp://two:2", "tcp4://one:1/ [data: two:2]"),
    ],
)
def test_a_url_for_each_port(control: str, data: str, shown: str) -> None:
    url, data_url = of_ports(control, data)
    assert shown_relay(Destination(url=url, data_url=data_url)) == shown


def test_the_data_port_may_be_on_another_host() -> None:
    relay = relay_of(Destination(url="net://one:1:9/p", data_url="tcp://two:2"))
    assert (relay.host, relay.control_port) == ("one", 1)
    assert (relay.data_host, relay.data_port, relay.path) == ("two", 2, "p")


@pytest.mark.parametrize(
    ("control", "data"),
    [
        ("net://h", "tcp://h"),
        ("tcp://h", "h:1"),
        ("tcp://h:0", "tcp://h"),
        ("tcp://h:65536", "tcp://h"),
        ("tcp://h:1:2", "tcp://h"),
        ("tcp://h/../..", "tcp://h"),
        ("tcp://h", "tcp://h/sub"),
        ("tcp6://[::1]", "tcp://127.0.0.1"),
        ("tcp://", "tcp://h"),
        ("tcp://h\n", "tcp://h"),
        pytest.param("tcp://h:" + "9" * 5000, "tcp://h", id="a port of 5000 digits"),
    ],
)
def test_urls_of_ports_that_are_none(control: str, data: str) -> None:
    with pytest.raises(UsageError) as refused:
        of_ports(control, data)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net://h", True),
        ("net6+tls://h", True),
        ("net+bogus://h", True),
        ("tcp://h", False),
        ("file:///net", False),
        ("net", False),
    ],
)
def test_what_is_meant_as_a_relay(text: str, expected: bool) -> None:
    assert is_relay_url(text) is expected
