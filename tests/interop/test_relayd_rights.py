# SPDX-License-Identifier: MIT
"""Who may send to our relay and look at it, and where names from the network lead."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.apps import Apps
from helpers.registry import running_registry
from helpers.relayd import Relayd, relayd
from helpers.rundir import Rundir

from ustconsumer.protocol.control import ChannelOptions, Destination

_CERTIFICATES = Path(__file__).resolve().parent.parent / "helpers" / "certificates"
_SECRET = b"a secret of relay and producers"
_EVENTS = 1000


def certificate(name: str) -> str:
    return str(_CERTIFICATES / f"{name}.pem")


@pytest.fixture
def token(tmp_path: Path) -> str:
    return secret(tmp_path / "token", _SECRET)


def secret(path: Path, text: bytes) -> str:
    path.write_bytes(text + b"\n")
    path.chmod(0o600)
    return str(path)


def files(relay: Relayd) -> list[Path]:
    return list(relay.output.rglob("*"))


def send(rundir: Rundir, apps: Apps, destination: Destination) -> tuple[int, list[str]]:
    """Record a program to a relay; return how many events did not get there, and the log."""
    with running_registry(rundir) as registry:
        session = registry.client.create("s", "", destination=destination)
        session.enable_channel("ch", ChannelOptions(subbuf_size=65536))
        session.enable_event("flood:tick", channel="ch")
        session.start()
        assert rundir.run([apps.flood, str(_EVENTS)]).returncode == 0
        session.stop()
        consumer = session.info().consumer
        assert consumer is not None
        session.destroy()
        return consumer.stats.unwritten_events, registry.log()


class Case(NamedTuple):
    """What a relay asks for, and what a producer shows."""

    options: tuple[str, ...]
    wrapped: str
    shown: dict[str, str]
    problem: str


_TLS = ("--tls-cert", certificate("relay"))
_CA = {"ca_file": certificate("ca")}
_MUTUAL = (*_TLS, "--tls-client-ca", certificate("ca"))
#: Whatever the connection says of its end.
_PERHAPS = "perhaps it wants TLS, a token or a certificate"
REFUSED = {
    "no token": Case(("--token-file", "TOKEN"), "net", {}, _PERHAPS),
    "another token": Case(("--token-file", "TOKEN"), "net", {"token_file": "OTHER"}, _PERHAPS),
    "no token in TLS": Case((*_TLS, "--token-file", "TOKEN"), "net+tls+zstd", _CA, _PERHAPS),
    "plain to TLS": Case(_TLS, "net", {}, ""),
    "TLS to plain": Case((), "net+tls", _CA, ""),
    "a relay nobody knows": Case(
        ("--tls-cert", certificate("stranger")), "net+tls", _CA, "certificate is not trusted"
    ),
    "a relay of another name": Case(
        ("--tls-cert", certificate("elsewhere")), "net+tls", _CA, "certificate is not trusted"
    ),
    "an expired relay": Case(
        ("--tls-cert", certificate("expired")), "net+tls", _CA, "certificate is not trusted"
    ),
    "whom the system trusts": Case(_TLS, "net+tls", {}, "certificate is not trusted"),
    "no client certificate": Case(_MUTUAL, "net+tls", _CA, ""),
    "a stranger's client certificate": Case(
        _MUTUAL, "net+tls", {**_CA, "cert_file": certificate("stranger")}, ""
    ),
}
TAKEN = {
    "token": Case(("--token-file", "TOKEN"), "net", {"token_file": "TOKEN"}, ""),
    "zstd": Case((), "net+zstd", {}, ""),
    "TLS": Case(_TLS, "net+tls", _CA, ""),
    "all of it": Case(
        (*_MUTUAL, "--token-file", "TOKEN"),
        "net+tls+zstd",
        {**_CA, "cert_file": certificate("producer"), "token_file": "TOKEN"},
        "",
    ),
}


def destination_of(relay: Relayd, case: Case, names: dict[str, str]) -> Destination:
    shown = {key: names.get(value, value) for key, value in case.shown.items()}
    return Destination(url=relay.url.replace("net:", f"{case.wrapped}:"), **shown)


@contextlib.contextmanager
def relay_of(case: Case, tmp_path: Path, names: dict[str, str]) -> Iterator[Relayd]:
    options = (names.get(option, option) for option in case.options)
    with relayd("ours", tmp_path / "relay", *options) as relay:
        yield relay


@pytest.mark.parametrize("name", REFUSED)
def test_who_is_refused_creates_nothing(
    rundir: Rundir, apps: Apps, tmp_path: Path, token: str, name: str
) -> None:
    case = REFUSED[name]
    names = {"TOKEN": token, "OTHER": secret(tmp_path / "other", b"something else")}
    with relay_of(case, tmp_path, names) as relay:
        lost, log = send(rundir, apps, destination_of(relay, case, names))
        assert lost == _EVENTS
        assert any(case.problem in line and "relay" in line for line in log)
        assert files(relay) == []


@pytest.mark.parametrize("name", TAKEN)
def test_who_shows_what_is_asked_for_is_taken(
    rundir: Rundir, apps: Apps, tmp_path: Path, token: str, name: str
) -> None:
    case, names = TAKEN[name], {"TOKEN": token}
    with relay_of(case, tmp_path, names) as relay:
        lost, _ = send(rundir, apps, destination_of(relay, case, names))
        assert lost == 0
        assert [path for path in files(relay) if path.name == "metadata"]


def ask_for_sessions(relay: Relayd, begin: bytes = b"") -> bytes:
    """Return what a viewer is answered to its first words."""
    connect = struct.pack(">QIIQIII", 20, 1, 0, 2**64 - 1, 2, 4, 1)
    with (
        socket.create_connection(("127.0.0.1", relay.live), timeout=60) as viewer,
        contextlib.suppress(OSError),
    ):
        viewer.sendall(begin + connect)
        return viewer.recv(20)
    return b""


def test_viewers_see_nothing_without_the_token(tmp_path: Path, token: str) -> None:
    said = b"UST\x01" + struct.pack(">H", len(_SECRET)) + _SECRET
    with relayd("ours", tmp_path / "relay", "--token-file", token) as relay:
        assert ask_for_sessions(relay) == b""
        assert ask_for_sessions(relay, said[:-1] + b"!") == b""
        assert len(ask_for_sessions(relay, said)) == 20
    options = ("--token-file", token, "--open-viewers")
    with relayd("ours", tmp_path / "open", *options) as relay:
        assert len(ask_for_sessions(relay)) == 20


def test_viewers_see_nothing_without_a_certificate(tmp_path: Path) -> None:
    with relayd("ours", tmp_path / "relay", *_MUTUAL) as relay:
        assert ask_for_sessions(relay) == b""
        context = ssl.create_default_context(cafile=certificate("ca"))
        seen = b""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", relay.live), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as viewer,
        ):
            viewer.sendall(struct.pack(">QIIQIII", 20, 1, 0, 2**64 - 1, 2, 4, 1))
            seen = viewer.recv(20)
        assert seen == b""


def test_a_token_that_others_may_read_is_no_secret(tmp_path: Path, token: str) -> None:
    os.chmod(token, 0o644)
    with (
        pytest.raises(AssertionError, match="others may read"),
        relayd("ours", tmp_path / "relay", "--token-file", token),
    ):
        pass


# -- names ---------------------------------------------------------------------------------


class Producer:
    """A producer that says what a test wants."""

    def __init__(self, relay: Relayd):
        self._socket = socket.create_connection(("127.0.0.1", relay.control), timeout=60)
        assert self.ask(5, struct.pack(">II", 2, 13), 8)

    def ask(self, command: int, payload: bytes, size: int) -> bytes:
        with contextlib.suppress(OSError):
            self._socket.sendall(struct.pack(">QQII", 0, len(payload), command, 0) + payload)
            return self._socket.recv(size, socket.MSG_WAITALL)
        return b""

    def create(self, name: bytes = b"s", host: bytes = b"h", base: bytes = b"") -> int:
        """Create a session; return the status, 0 for no answer."""
        names = [each + b"\0" for each in (name, host, base)]
        lengths = [len(each) for each in names]
        fixed = struct.pack(">IIIIBB16sQQBQ", *lengths, 0, 0, 0, os.urandom(16), 0, 1, 0, 0)
        raw = self.ask(2, fixed + b"".join(names), 16)
        if len(raw) < 16:
            return 0
        _, status, length = struct.unpack(">QII", raw)
        self._socket.recv(length, socket.MSG_WAITALL)
        return int(status)

    def chunk(self, name: bytes = b"") -> int:
        text = name + b"\0" if name else b""
        return self._status(self.ask(19, struct.pack(">QQI", 0, 1, len(text)) + text, 4), 0)

    def stream(self, name: bytes, path: bytes) -> int:
        names = name + b"\0" + path + b"\0"
        fixed = struct.pack(">IIQQQ", len(name) + 1, len(path) + 1, 0, 0, 0)
        return self._status(self.ask(1, fixed + names, 12), 8)

    def close(self) -> None:
        self._socket.close()

    @staticmethod
    def _status(raw: bytes, at: int) -> int:
        return int.from_bytes(raw[at : at + 4], "big") if len(raw) >= at + 4 else 0


#: A leading slash means nothing there: old producers send whole paths. The name of a program
#: is a step of them, whatever it is.
_HARMLESS_PATHS = (b"/etc/escaped", b"\n", b".hidden")
BAD = [
    b"..",
    b"../escaped",
    b"a/../../escaped",
    b"/etc/escaped",
    b"a" * 300,
    b"a\0b",
    b"\n",
    b"\xff\xfe",
    b"",
    b".hidden",
]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relayd]:
    with relayd("ours", tmp_path / "below" / "relay") as running:
        yield running


def outside(tmp_path: Path) -> set[Path]:
    """Return everything beside what the relay may write."""
    return {
        path
        for path in tmp_path.rglob("*")
        if tmp_path / "below" / "relay" not in path.parents and path.suffix != ".log"
    }


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_names_do_not_leave_the_output_directory(relay: Relayd, tmp_path: Path, bad: bytes) -> None:
    before = outside(tmp_path)
    for which in ("name", "host"):
        producer = Producer(relay)
        assert producer.create(**{which: bad}) != 10
        producer.close()
    assert files(relay) == []
    for name, path in ((bad, b"ust/uid/0"), (b"ch_0", bad if bad else b"../x")):
        producer = Producer(relay)
        assert producer.create() == 10
        assert producer.chunk() == 10
        if name == bad or path not in _HARMLESS_PATHS:
            assert producer.stream(name, path) != 10
        producer.close()
    producer = Producer(relay)
    assert producer.create() == 10
    if bad:
        assert producer.chunk(bad) != 10
    producer.close()
    for base in (b"../escaped", b"a/../../escaped"):
        producer = Producer(relay)
        assert producer.create(base=base) != 10
        producer.close()
    assert outside(tmp_path) == before
    assert not [path for path in files(relay) if path.is_file()]


def test_links_below_the_output_directory_are_not_followed(relay: Relayd, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (relay.output / "h").symlink_to(target)
    producer = Producer(relay)
    assert producer.create() != 10
    producer.close()
    (relay.output / "h").unlink()
    # The second step, and a file.
    producer = Producer(relay)
    assert producer.create(host=b"h", base=b"b") == 10
    assert producer.chunk() == 10
    (relay.output / "h" / "b" / "ust").symlink_to(target)
    assert producer.stream(b"ch_0", b"ust/uid") != 10
    (relay.output / "h" / "b" / "ust").unlink()
    (relay.output / "h" / "b" / "ust").mkdir()
    (relay.output / "h" / "b" / "ust" / "ch_0").symlink_to(target / "file")
    assert producer.stream(b"ch_0", b"ust") != 10
    producer.close()
    assert list(target.iterdir()) == []
