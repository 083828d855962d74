# SPDX-License-Identifier: MIT
"""logs.py: three loggers each say something of every level, for each line of standard input.

With the agent of LTTng: for the Python that python3-lttngust is installed for.
"""

import logging
import sys

import lttngust  # noqa: F401 - it registers

loggers = [logging.getLogger(name) for name in ("shop", "shop.till", "store")]
print("ready", flush=True)
for number, _ in enumerate(sys.stdin):
    for logger in loggers:
        logger.debug("closer look at %d", number)
        logger.info("item %d", number)
        logger.warning("few left")
        logger.error("none left")
        logger.critical("shut")
    print("said", flush=True)
