# SPDX-License-Identifier: MIT
"""Contexts as filters and captures get them, and those that programs have of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from ustconsumer.abi.application import CONTEXTS
from ustconsumer.tracer import contexts


def value(name: str) -> object:
    getter = contexts.getter(name)
    assert getter is not None
    return getter()


def test_values_are_those_of_the_calling_thread() -> None:
    expected = {
        "vpid": os.getpid(),
        "vtid": threading.get_native_id(),
        "pthread_id": threading.get_ident(),
        "vuid": os.getresuid()[0],
        "veuid": os.getresuid()[1],
        "vsuid": os.getresuid()[2],
        "vgid": os.getresgid()[0],
        "vegid": os.getresgid()[1],
        "vsgid": os.getresgid()[2],
    }
    assert {name: value(name) for name in expected} == expected
    assert value("$ctx.vpid") == os.getpid()
    assert value("cpu_id") in range(os.cpu_count() or 1)
    names: list[object] = []
    thread = threading.Thread(target=lambda: names.append(value("vtid")))
    thread.start()
    thread.join()
    assert names[0] not in (None, threading.get_native_id())


def test_the_name_is_that_of_the_thread() -> None:
    with open("/proc/thread-self/comm", "rb") as comm:
        assert value("procname") == comm.read().rstrip(b"\n")


def test_namespaces_are_inodes() -> None:
    for name in (name for name in CONTEXTS if name.endswith("_ns")):
        assert value(name) == os.stat(f"/proc/self/ns/{name[:-3]}").st_ino
        assert contexts.native(name) == ("u64", value(name))


def test_filters_have_no_instruction_pointer() -> None:
    assert contexts.getter("ip") is None
    assert contexts.getter("$ctx.nothing") is None


def test_every_context_but_those_with_parameters_can_be_recorded() -> None:
    for name in CONTEXTS:
        assert contexts.native(name) is not None
        (field,) = contexts.described(name, lambda name, entries: 0)
        assert field.name == name


def test_a_context_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "_applications", {})
    getter = contexts.getter("$app.shop:customer")
    assert getter is not None
    assert getter() is None
    contexts.register("shop:customer", lambda: "Ann \udc80")
    # As in fields: bytes; what UTF-8 does not have is a question mark.
    assert getter() == b"Ann ?"
    contexts.register("shop:customer", lambda: 7)
    assert getter() == value("app.shop:customer") == 7


def test_the_task_of_asyncio() -> None:
    assert value("$app.asyncio:task") is None

    async def main() -> object:
        return await asyncio.create_task(inner(), name="brew")

    async def inner() -> object:
        return value("$app.asyncio:task")

    assert asyncio.run(main()) == b"brew"
    assert value("$app.asyncio:task") is None


def test_a_program_without_asyncio_stays_without() -> None:
    source = """
import sys
from ustconsumer.tracer import contexts
assert contexts.getter("$app.asyncio:task")() is None
assert contexts.native("$app.asyncio:task")[1]() is None
assert "asyncio" not in sys.modules and "typing" not in sys.modules
"""
    subprocess.run([sys.executable, "-P", "-S", "-c", source], check=True, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
