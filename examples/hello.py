# SPDX-License-Identifier: MIT
"""A program with a tracepoint: ``drtrace record -- python examples/hello.py``."""

from ustconsumer.tracer import Provider, f64, string, u32

shop = Provider("shop")
order = shop.tracepoint("order", number=u32, item=string, price=f64, level="info")

for number, item in enumerate(["tea", "milk", "sugar"] * 100):
    order(number, item, 0.5 * number)

print("hello")
