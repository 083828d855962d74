#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Consume a session and show where its bytes are: a histogram of byte values per CPU.

Usage: histogram.py SESSION [RUNDIR]   (create and start the session with drtrace; this
program is its consumer until the session is destroyed)
"""

import sys
from collections import defaultdict

import numpy as np

import ustconsumer

counts: defaultdict[int, np.ndarray] = defaultdict(lambda: np.zeros(256, np.int64))
packets: defaultdict[int, int] = defaultdict(int)
rundir = sys.argv[2] if len(sys.argv) > 2 else None

with ustconsumer.attach(sys.argv[1], consume=True, rundir=rundir) as session:
    print("attached", flush=True)
    for packet in session.packets():
        # A view of the tracer's memory: nothing was copied to get here.
        content = packet.data[: packet.content_size]
        counts[packet.stream.cpu] += np.bincount(content, minlength=256)
        packets[packet.stream.cpu] += 1
        del content  # the packet is given back when the next one is asked for

for cpu, histogram in sorted(counts.items()):
    common = ", ".join(f"{value:#04x}" for value in histogram.argsort()[:-4:-1])
    print(f"cpu {cpu}: {packets[cpu]} packets, {histogram.sum()} bytes, most often {common}")
