#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Print what programs do, as it happens: notifications of a trigger, without a trace.

    python notifications.py 'shop:*' item price

The first argument is a pattern of event names, the others are fields or contexts to tell.
"""

import asyncio
import contextlib
import os
import sys

import ustconsumer


async def main(pattern: str, captures: list[str]) -> None:
    rundir = os.environ.get("LTTNG_UST_CTL_PATH")
    with ustconsumer.connect(rundir, start=True) as registry:
        trigger = registry.add_trigger(pattern, captures=captures)
        try:
            async with registry.notifications(trigger.name) as notifications:
                print("listening", flush=True)
                async for notification in notifications:
                    values = dict(zip(captures, notification.captures, strict=True))
                    print(f"pid {notification.pid}: {values}", flush=True)
        finally:
            registry.remove_trigger(trigger.name)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2:]))
