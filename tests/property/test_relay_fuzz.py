# SPDX-License-Identifier: MIT
"""Damaged input on each port of ``ust-relayd``: it stays, small, and others do not notice.

One case is one connection with a dialogue in which something is wrong; 10 000 of them, 100 000
with hypothesis' profile ``fuzz``. ``test_relay_inside`` goes on to a million without sockets.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from helpers.mutation import Mutator
from helpers.relayd import Relayd, relayd
from helpers.relaypeer import Connection, Producer
from helpers.relayscripts import dialogue, packets_and_words, viewing
from helpers.steady import HOST, Steady, steady
from hypothesis import settings

#: Bytes of memory, whatever comes: an idle relay has about 50 MiB.
MAX_MEMORY = 192 << 20
#: Bytes on disk per case: nobody sends more than a few KiB.
MAX_DISK = 1 << 20
#: Cases after which what they left in the output directory is removed.
_ROUND = 1000


class Target:
    """A relay with something at stake: its neighbourhood, and a session of somebody else."""

    def __init__(self, running: Relayd, others: Steady, home: Path, names: list[bytes]) -> None:
        self.running = running
        self.others = others
        self.home = home
        self.names = names
        self.ports = running.control, running.data
        self.pid = running.process.pid

    def resident(self) -> int:
        """Return the most memory that it ever had, in bytes."""
        match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert match
        return 1024 * int(match[1])

    def tidy(self) -> None:
        """Check what there is, and remove what the cases made."""
        assert self.running.process.poll() is None
        assert not self.others.failed, self.others.failed
        assert self.resident() < MAX_MEMORY
        size = 0
        for path in self.running.output.iterdir():
            if path.name == HOST or path.is_symlink():
                continue
            if path.is_dir():
                size += _blocks(path)
                shutil.rmtree(path)
        assert size < MAX_DISK * _ROUND


def _blocks(directory: Path) -> int:
    size = 0
    for place, _, names in os.walk(directory):
        for name in names:
            size += os.lstat(os.path.join(place, name)).st_blocks * 512
    return size


def _surroundings(home: Path) -> list[str]:
    """Return everything in the home that is not below the output directory."""
    found = []
    for directory, below, names in os.walk(home):
        if directory == str(home):
            below.remove("out")
        found += [os.path.join(directory, name) for name in (*below, *names)]
    return sorted(found)


@contextlib.contextmanager
def target(home: Path) -> Iterator[Target]:
    """Run a relay; at the end it must be the same process, and nothing else be different."""
    outside = home / "outside"
    outside.mkdir(parents=True)
    output = home / "out"
    output.mkdir()
    (output / "link").symlink_to(outside)
    (output / "fuzz").mkdir()
    (output / "fuzz" / "link").symlink_to(outside)
    names = [
        os.fsencode(outside / "x"),
        *(b"../" * depth + b"outside/x" for depth in range(1, 8)),
        b"..",
        b".",
        b"",
        b"/",
        b"a/../../../outside/x",
        b"link/x",
        b"../link/x",
        b"../../link",
        b"x" * 255,
        b"x" * 300,
        b"d/" * 200,
        b"x" * 5000,
        b"a\nb",
        b"\xff\xfe\xed\xa0\x80",
        b"metadata",
        b"index",
        b"archives",
        b"c_0.idx",
        b".tmp_old_chunk",
    ]
    with (
        relayd("ours", output) as running,
        steady((running.control, running.data), running.live, output) as others,
    ):
        before = _surroundings(home)
        made = Target(running, others, home, names)
        yield made
        # Somebody new is welcome.
        Producer(made.ports, name="new", host="fuzz").close()
        assert running.process.poll() is None
        assert running.process.pid == made.pid
        assert made.resident() < MAX_MEMORY
        assert _surroundings(home) == before
        assert not os.listdir(outside)
    assert "Traceback" not in running.log


def _speak(mutator: Mutator, port: int, script: list[bytes], first: bytes = b"") -> None:
    """Have one connection say everything, and wait until the relay has closed it."""
    data = first + b"".join(script)
    if mutator.random.random() < 0.1:
        data = _packed(mutator, data)
    with contextlib.closing(Connection(port)) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(data)
        connection.rest()


def _packed(mutator: Mutator, data: bytes) -> bytes:
    """Return the bytes as a compressed stream, which may be damaged as well."""
    if mutator.random.random() < 0.05:
        # Little that says much.
        data += bytes(64 << 20)
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    packed = packer.compress(data) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    if mutator.random.random() < 0.5:
        packed = packed[:4] + mutator.message(packed[4:], 0)
    return packed


# -- control ----------------------------------------------------------------------------------


def _control_case(mutator: Mutator, target: Target, number: int) -> None:
    guess = target.others.stream + mutator.random.choice((1, 2, 3, number, 4 * number))
    script = dialogue(mutator.random, guess, number)
    first = mutator.random.choice((0, 1, 3))
    head, tail = script[:first], script[first:]
    _speak(mutator, target.ports[0], mutator.script(tail, 20), b"".join(head))


# -- control, with handles that are right, and data ----------------------------------------------


class _Victim:
    """A producer whose requests and packets are damaged; another one when it is refused."""

    def __init__(self, mutator: Mutator, target: Target) -> None:
        self._mutator = mutator
        self._target = target
        self._producer: Producer | None = None
        self._number = 0

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def case(self, number: int) -> None:
        """Send packets and their indexes, something of which is wrong."""
        choose = self._mutator.random
        try:
            producer = self._ready()
            handle = producer.add(f"c_{number}", size=choose.choice((0, 0, 8192)), count=2)
        except (EOFError, ConnectionError, AssertionError):
            # What was said in the last case has ended it.
            self.close()
            return
        data, said = packets_and_words(choose, handle)
        damaged = choose.random() < 0.5
        if damaged:
            said = self._mutator.script(said, 20)
            with contextlib.suppress(ConnectionError):
                producer.control.send(b"".join(said[: choose.randrange(len(said) + 1)]))
        _speak(self._mutator, self._target.ports[1], self._mutator.script(data, 28))
        if damaged:
            # Whether it still listens, and from which byte on, nobody knows.
            self.close()

    def _ready(self) -> Producer:
        if self._producer is None:
            self._number += 1
            self._producer = Producer(self._target.ports, name=f"v{self._number}", host="fuzz")
        return self._producer


# -- viewers -----------------------------------------------------------------------------------


def _viewer_case(mutator: Mutator, target: Target, number: int) -> None:
    choose = mutator.random
    session, stream = target.others.producer.session, target.others.stream
    script = viewing(choose, session, stream)
    first = choose.choice((0, 2, 4))
    head = b"".join(script[:first])
    _speak(mutator, target.running.live, mutator.script(script[first:], 12), head)


def _cases() -> int:
    """Return how many there are in all."""
    return 100_000 if settings().max_examples > 1000 else 10_000


Case = Callable[[int], None]


@pytest.mark.parametrize("port", ["control", "data", "live"])
def test_damaged_input(port: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        at_stake = stack.enter_context(target(tmp_path / "home"))
        mutator = Mutator(f"relay {port}", at_stake.names)
        case: Case
        if port == "control":
            case = lambda number: _control_case(mutator, at_stake, number)  # noqa: E731
        elif port == "data":
            case = stack.enter_context(contextlib.closing(_Victim(mutator, at_stake))).case
        else:
            case = lambda number: _viewer_case(mutator, at_stake, number)  # noqa: E731
        sent = at_stake.others.sent
        for number in range(_cases() // 3 + 1):
            case(number)
            if number % _ROUND == _ROUND - 1:
                at_stake.tidy()
                # The other session goes on all the time.
                assert at_stake.others.sent > sent
                sent = at_stake.others.sent
        print(
            f"\n{port}: {at_stake.resident() >> 20} MiB, {at_stake.others.sent} packets beside it"
        )
