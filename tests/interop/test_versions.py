# SPDX-License-Identifier: MIT
"""Programs of LTTng-UST 2.12 and 2.14 beside ours: told apart by protocol and memory only."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.fakeapp import FakeApp
from helpers.registry import running_registry, until
from helpers.rundir import Rundir

from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("babeltrace2")


@pytest.mark.parametrize("mode", ["discard", "overwrite"])
@pytest.mark.parametrize("major", [8, 9, 10])
def test_a_program_of_another_version_shares_a_buffer_with_ours(
    rundir: Rundir, apps: Apps, major: int, mode: str
) -> None:
    count = 3000
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("versions", str(output))
        session.enable_channel("channel0", ChannelOptions(subbuf_size=65536, mode=mode))
        session.enable_event("fake:*")
        session.enable_event("flood:tick")
        session.start()
        fake = FakeApp(rundir.path, major)
        try:
            assert fake.ready.wait(30)
            info = registry.applications()[os.getpid()]
            assert (info.abi, info.tracer) == (f"{major}.0", f"2.{major + 4}.0")
            assert fake.rules == [(b"fake:*", 0, -1), (b"flood:tick", 0, -1)]
            # One after the other: our writer takes the time before it takes its place.
            fake.write(count)
            assert rundir.run([apps.flood, str(count)]).returncode == 0
            fake.write(count)
            assert session.stop() == []
        finally:
            fake.close()
        session.destroy()
    reading = babeltrace2_text(output)
    assert reading.stderr == ""
    names = Counter(re.findall(r" (fake|flood):tick", "\n".join(reading.lines)))
    assert names == {"fake": 2 * count, "flood": count}
    values = [int(each) for each in re.findall(r"value = (\d+)", "\n".join(reading.lines))]
    assert values == [*range(count), *range(count)]


@pytest.mark.parametrize(
    ("major", "bits", "reason"),
    [(7, 64, "ABI 7, not 8 to 10"), (11, 64, "ABI 11, not 8 to 10"), (9, 32, "32-bit")],
)
def test_a_program_that_cannot_be_traced_is_refused_with_the_reason(
    rundir: Rundir, major: int, bits: int, reason: str
) -> None:
    with running_registry(rundir) as registry:
        fake = FakeApp(rundir.path, major, bits=bits)
        try:
            until(fake.refused.is_set, "its connection is closed")
            info = registry.applications()[os.getpid()]
            assert (info.state, info.sessions) == ("refused", [])
            assert reason in info.reason
        finally:
            fake.close()
