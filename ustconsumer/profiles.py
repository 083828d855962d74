# SPDX-License-Identifier: MIT
"""What to record of programs of a kind: a row each. To add one: a row here.

Each row says where its choice comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["PROFILES", "Profile"]


class Profile(NamedTuple):
    """How to record one kind of program."""

    summary: str
    #: patterns of event names
    events: tuple[str, ...]
    #: fields recorded with every event
    contexts: tuple[str, ...]
    #: names of `ustconsumer.client.preload.LIBRARIES`
    preload: tuple[str, ...] = ()
    #: set in the program's environment where they are not set already
    environment: Mapping[str, str] = {}
    #: attributes of the channel, fields of ``ChannelOptions``; others have their default
    channel: Mapping[str, Any] = {}


PROFILES = {
    # Events, contexts, sizes and timer: ros2/ros2_tracing, tracetools_trace/tools,
    # names.py (DEFAULT_CONTEXT) and lttng_impl.py (setup).
    "ros2": Profile(
        summary="ROS 2 nodes (ros2:*)",
        # All of the provider: its default list there grows with each release.
        events=("ros2:*",),
        contexts=("vpid", "vtid", "procname"),
        # The timer spares a real-time thread the system call that wakes a reader up.
        channel={"subbuf_size": 8 * 4096, "num_subbuf": 2, "read_timer_us": 200},
    ),
    # Variables: dotnet/runtime, src/coreclr/pal/src/misc/tracepointprovider.cpp (LTTng: load the
    # provider) and src/coreclr/inc/clrconfigvalues.h (EnableEventLog: emit); both with the prefix
    # DOTNET_, before .NET 6 COMPlus_. Contexts: microsoft/perfview, src/perfcollect.
    "dotnet": Profile(
        summary=".NET programs (DotNETRuntime:*), whose runtime is told to emit events",
        events=("DotNETRuntime:*",),
        contexts=("vpid", "vtid", "procname"),
        environment={
            "DOTNET_LTTng": "1",
            "DOTNET_EnableEventLog": "1",
            "COMPlus_LTTng": "1",
            "COMPlus_EnableEventLog": "1",
        },
    ),
    # Libraries and providers: lttng-ust(3), lttng-ust-cyg-profile(3), lttng-ust-dl(3). vpid and ip
    # are what babeltrace2's filter.lttng-utils.debug-info needs to name functions.
    "cpp": Profile(
        summary="every call in C and C++ compiled with -finstrument-functions",
        events=("lttng_ust_cyg_profile*", "lttng_ust_statedump:*", "lttng_ust_lib:*"),
        contexts=("vpid", "vtid", "ip"),
        preload=("cyg", "dl"),
        # Two events a call: a full buffer is the rule with the default of 2 MiB per CPU.
        channel={"subbuf_size": 2 << 20, "num_subbuf": 8},
    ),
}
