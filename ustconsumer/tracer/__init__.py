# SPDX-License-Identifier: MIT
"""Tracing a Python program from inside: the in-process library.

.. code-block:: python

    from ustconsumer.tracer import Provider, f64, string, u32

    shop = Provider("shop")
    order = shop.tracepoint("order", number=u32, item=string, price=f64)
    order(1, "tea", 2.5)

The program registers with every session registry it finds, ours or lttng-sessiond.
Imports neither numpy nor asyncio, starts one daemon thread, prints nothing.
"""
