# SPDX-License-Identifier: MIT
"""Traced Python programs, as sources; run with the interpreter of the tests' user."""

from __future__ import annotations

__all__ = ["BIG", "STORM"]

#: ``storm EVENTS THREADS CHILDREN LENGTH [FILE]``: each of THREADS threads emits EVENTS
#: events, once FILE exists; while they do, CHILDREN children are forked, in which as many
#: threads emit as many.
STORM = """
import os, sys, threading, time
from ustconsumer.tracer import Provider, string, u32

events, threads, children, length = map(int, sys.argv[1:5])
tick = Provider("storm").tracepoint("tick", seq=u32, thread=u32, text=string)

def emit(thread):
    text = "x" * length
    for seq in range(events):
        tick(seq, thread, text)

def start():
    started = [threading.Thread(target=emit, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    return started

while not all(map(os.path.exists, sys.argv[5:])):
    time.sleep(0.001)
running = start()
pids = []
for child in range(children):
    pid = os.fork()
    if pid == 0:
        for thread in start():
            thread.join()
        os._exit(0)
    pids.append(pid)
for thread in running:
    thread.join()
for pid in pids:
    assert os.waitpid(pid, 0)[1] == 0
"""

#: ``big EVENTS BYTES``: before each of EVENTS small events one with a text of BYTES.
BIG = """
import sys
from ustconsumer.tracer import Provider, string, u32

events, length = map(int, sys.argv[1:3])
provider = Provider("storm")
tick = provider.tracepoint("tick", seq=u32)
huge = provider.tracepoint("huge", text=string)
text = "x" * length
for seq in range(events):
    huge(text)
    tick(seq)
"""
