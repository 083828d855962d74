# SPDX-License-Identifier: MIT
"""URLs of relays: the forms of ``lttng create --set-url``, and ours around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.errors import UsageError
from ustconsumer.protocol.relayurl import RelayUrl, parse_url


@pytest.mark.parametrize(
    ("url", "host", "control", "data", "path", "ipv6"),
    [
        ("net://h", "h", 5342, 5343, "", False),
        ("net://h:1000", "h", 1000, 5343, "", False),
        ("net://h:1000:2000", "h", 1000, 2000, "", False),
        ("net://h:1:65535/", "h", 1, 65535, "", False),
        ("net://10.0.0.1:1:2/sub/dir", "10.0.0.1", 1, 2, "sub/dir", False),
        ("net://h/sub", "h", 5342, 5343, "sub", False),
        ("net6://[::1]:1:2/a", "::1", 1, 2, "a", True),
        ("net6://[fe80::1%eth0]", "fe80::1%eth0", 5342, 5343, "", True),
        ("net6://h", "h", 5342, 5343, "", True),
    ],
)
def test_forms_of_lttng(
    url: str, host: str, control: int, data: int, path: str, ipv6: bool
) -> None:
    expected = RelayUrl(host=host, control_port=control, data_port=data, path=path, ipv6=ipv6)
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("scheme", "ipv6", "tls", "zstd"),
    [
        ("net+zstd", False, False, True),
        ("net+tls", False, True, False),
        ("net+tls+zstd", False, True, True),
        ("net+zstd+tls", False, True, True),
        ("net6+tls+zstd", True, True, True),
    ],
)
def test_wrapped(scheme: str, ipv6: bool, tls: bool, zstd: bool) -> None:
    found = parse_url(f"{scheme}://h:1:2/p")
    assert (found.ipv6, found.tls, found.zstd) == (ipv6, tls, zstd)
    assert (found.host, found.control_port, found.data_port, found.path) == ("h", 1, 2, "p")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "net:h",
        "net://",
        "net://:1",
        "net:///path",
        # lttng: "Unrecognized URL format" with --set-url.
        "tcp://h",
        "tcp6://h",
        "file:///abs/dir",
        "http://h",
        "network://h",
        "NET://h",
        "net4://h",
        "net+gzip://h",
        "net+://h",
        "net+tls+tls://h",
        "net+zstd+tls+zstd://h",
        "net://h:",
        "net://h:0",
        "net://h:65536",
        "net://h:1:0",
        "net://h:1:2:3",
        "net://h:-1",
        "net://h:x",
        "net://h:\u0661",
        pytest.param("net://h:" + "9" * 5000, id="a port of 5000 digits"),
        "net6://::1",
        "net6://[::1",
        "net://h /p",
        "net://h\n",
        "net://h\0",
        "net://h/..",
        "net://h/a/../../b",
        "net://h/a\nb",
        "net://h/a\0b",
    ],
)
def test_what_is_none(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_url(url)
    assert "\n" not in str(refused.value)
    assert "\0" not in str(refused.value)


_PORTS = st.integers(1, 65535)


@given(
    st.sampled_from(["h", "127.0.0.1", "a-b.example", "::1"]),
    _PORTS,
    _PORTS,
    st.sampled_from(["", "a", "a/b c/..d"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_shown_as_it_is_read(
    host: str, control: int, data: int, path: str, ipv6: bool, tls: bool, zstd: bool
) -> None:
    url = RelayUrl(
        host=host,
        control_port=control,
        data_port=data,
        path=path,
        ipv6=ipv6,
        tls=tls,
        zstd=zstd,
    )
    assert parse_url(str(url)) == url


@given(st.text())
def test_nothing_but_a_usage_error(text: str) -> None:
    for url in (text, f"net://{text}", f"net6://[{text}]:1", f"net://h:{text}", f"net://h/{text}"):
        try:
            found = parse_url(url)
        except UsageError:
            continue
        assert found.host
        assert ".." not in found.path.split("/")
