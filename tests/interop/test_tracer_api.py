# SPDX-License-Identifier: MIT
"""The tracer's API in real programs, recorded by ``drtrace record``, read by babeltrace2."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from helpers.babeltrace import babeltrace2_text
from helpers.drtrace import Summary
from helpers.lttng import lttng_sessiond
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("babeltrace2")
TREE = Path(__file__).resolve().parents[2]


def program(rundir: Rundir, source: str, name: str = "program.py") -> Path:
    path = rundir.home / name
    path.write_text(source)
    return path


def record(
    rundir: Rundir, options: list[str], source: str | Path, *arguments: str, status: int = 0
) -> tuple[list[str], str]:
    """Record a Python program; return its events without time and contexts, and its warnings."""
    path = source if isinstance(source, Path) else program(rundir, source)
    command = [*rundir.user.python(*arguments, path)]
    result = rundir.drtrace("record", "-o", rundir.home / "trace", *options, "--", *command)
    assert result.returncode == status, result.stderr
    return [short(line) for line in Summary(result.stdout).check()], result.stderr


def short(line: str) -> str:
    match = re.fullmatch(r"\[[^]]*\] \S+ (\S+): \{ cpu_id = \d+ \}, \{ .*? \}, \{ ?(.*?) ?\}", line)
    assert match, line
    return f"{match[1]} {match[2]}".rstrip()


def test_hello(rundir: Rundir) -> None:
    lines, warnings = record(rundir, ["-e", "shop:*"], TREE / "examples" / "hello.py")
    assert warnings == ""
    assert lines == [
        f'shop:order number = {number}, item = "{item}", price = {number / 2:g}'
        for number, item in enumerate(["tea", "milk", "sugar"] * 100)
    ]
    assert len((TREE / "examples" / "hello.py").read_text().splitlines()) == 12


EVERYTHING = """
from __future__ import annotations
import enum, logging
from dataclasses import dataclass
from ustconsumer.tracer import *
from ustconsumer.tracer.log import Handler

class Colour(enum.Enum):
    RED = 1
    GREEN = 2

@dataclass
class Order:
    number: u32
    tags: list[u16]
    colour: Colour
    raw: bytes
    note: str = "no\\nnews"

shop = Provider("shop")
order = shop.tracepoint(Order, level="warning")
order(Order(4294967295, [1, 65535], Colour.GREEN, b"\\0\\xff"))
order(Order(0, [], Colour.RED, b"", "\\u00fc \\"quoted\\""))

checkout = shop.span("checkout", cart=u32)
pay = shop.span("pay")

@pay
def paying():
    raise KeyError("card")

with checkout(cart=7):
    try:
        paying()
    except KeyError:
        pass

length = shop.counter("queue_length")
length.add(2)
length.set(-5)

logging.getLogger().addHandler(Handler())
logging.getLogger("shop.cart").warning("low on %s", "tea")
"""


def test_every_kind_of_event(rundir: Rundir) -> None:
    lines, warnings = record(rundir, ["-e", "shop:*,python:*"], EVERYTHING)
    assert warnings == ""
    spans = re.findall(r"\bspan_id = (\d+)", " ".join(lines))
    outer, inner = spans[0], spans[1]
    assert int(inner) == int(outer) + 1
    path = rundir.home / "program.py"
    place = EVERYTHING.splitlines().index(
        'logging.getLogger("shop.cart").warning("low on %s", "tea")'
    )
    assert lines == [
        "shop:order number = 4294967295, _tags_length = 2, tags = [ [0] = 1, [1] = 65535 ], "
        'colour = ( "GREEN" : container = 2 ), _raw_length = 2, raw = [ [0] = 0, [1] = 255 ], '
        'note = "no\\nnews"',
        "shop:order number = 0, _tags_length = 0, tags = [ ], "
        'colour = ( "RED" : container = 1 ), _raw_length = 0, raw = [ ], '
        'note = "ü \\"quoted\\""',
        f"shop:checkout_begin span_id = {outer}, parent_id = 0, cart = 7",
        f"shop:pay_begin span_id = {inner}, parent_id = {outer}",
        f'shop:pay_end span_id = {inner}, exception = "KeyError"',
        f'shop:checkout_end span_id = {outer}, exception = ""',
        "shop:queue_length value = 2, delta = 2",
        "shop:queue_length value = -5, delta = -7",
        'python:log_warning message = "low on tea", logger = "shop.cart", level = 30, '
        f'file = "{path}", line = {place + 1}, function = "<module>", thread = "MainThread"',
    ]


LEVELS = """
import logging
from ustconsumer.tracer.log import Handler
logging.basicConfig(handlers=[Handler()], level=0)
for level in (10, 20, 25, 30, 40, 50):
    logging.log(level, "x")
"""


@pytest.mark.peers("lttng", "lttng-sessiond")
@pytest.mark.parametrize(
    ("options", "levels"),
    [
        (["--loglevel=WARNING"], ["30", "40", "50"]),
        (["--loglevel-only=INFO"], ["20"]),
        (["--filter", "level < 40", "--exclude", "python:log_i*,python:log_d*"], ["25", "30"]),
    ],
)
def test_levels_of_logging_under_lttng(options: list[str], levels: list[str]) -> None:
    with lttng_sessiond() as lttng:
        output = lttng.rundir.home / "trace"
        lttng("create", "s", "-o", output)
        lttng("enable-event", "--userspace", "python:*", *options)
        lttng("start")
        result = lttng.rundir.run_python(program(lttng.rundir, LEVELS))
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        lttng("stop")
        lttng("destroy")
        lines = babeltrace2_text(output).lines
    assert re.findall(r" level = (\d+)", " ".join(lines)) == levels


def anonymous(lines: list[str]) -> list[str]:
    """Without what differs from run to run: path, processor, process, time."""
    return [re.sub(r"\d{12,}", "N", re.sub(r'"/[^"]*/', '"/', line)) for line in lines]


@pytest.mark.parametrize(
    ("name", "options"),
    [("fact.py", ["--python-calls", "__main__"]), ("shop.py", ["-e", "shop:*,python:*"])],
)
def test_the_page_for_users_is_true(rundir: Rundir, name: str, options: list[str]) -> None:
    page = (TREE / "docs" / "tracing-python.md").read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    at = next(at for at, (_, text) in enumerate(blocks) if f"-- python {name}\n" in text)
    (language, source), (_, output) = blocks[at - 1 : at + 1]
    assert language == "python"
    told = [short(line) for line in output.splitlines() if line.startswith("[")]
    lines, warnings = record(rundir, options, program(rundir, source, name))
    assert warnings.strip() in ("", "card 4711 refused")
    assert anonymous(lines) == anonymous(told)


# -- calls of programs that know nothing of it ------------------------------------------------


def nested(lines: list[str]) -> Counter[str]:
    """Check that what is entered is left, thread by thread; count the names."""
    stacks: dict[str, list[str]] = defaultdict(list)
    names: Counter[str] = Counter()
    for line in lines:
        match = re.search(r"python:(\w+): .*? vtid = (\d+), .*?\bname = \"([^\"]*)\"", line)
        assert match, line
        event, thread, name = match.groups()
        if event in ("call", "resume"):
            stacks[thread].append(name)
        else:
            assert stacks[thread].pop() == name, line
        names[f"{event} {name}"] += 1
    return names


CALLS = """
import multiprocessing, subprocess, sys, threading, os

def work(number):
    return sum(each(number))

def each(number):
    for each in range(number):
        yield each

class Worker:
    def run(self):
        try:
            self.fail()
        except ValueError:
            return work(2)

    def fail(self):
        raise ValueError

if __name__ == "__main__":
    print([path for path in sys.path if os.path.exists(f"{path}/sitecustomize.py")], Worker().run())
    thread = threading.Thread(target=work, args=(1,))
    thread.start()
    thread.join()
    sys.stdout.flush()
    for method in ("fork", "spawn"):
        process = multiprocessing.get_context(method).Process(target=work, args=(3,))
        process.start()
        process.join()
    code = "def other(): pass\\nother()"
    subprocess.run([sys.executable, "-c", code], check=True)
"""


def test_calls_of_a_program_and_its_children(rundir: Rundir) -> None:
    path = program(rundir, CALLS)
    command = rundir.user.python(path)
    # What multiprocessing starts to look after its resources outlives the program a little.
    options = ["--wait-all", "-o", rundir.home / "trace"]
    options += ["--python-calls", "__main__", "__mp_main__"]
    result = rundir.drtrace("record", *options, "--", *command)
    assert (result.returncode, result.stderr) == (0, "")
    summary = Summary(result.stdout)
    # Nothing of ours is left in the path: what is in it was there before.
    assert summary.before == rundir.run_python(path).stdout.splitlines()
    assert summary.before[0].endswith("] 1")
    lines = summary.check()
    assert {re.search(r" (\w+):", line)[1] for line in lines} == {"python"}  # type: ignore[index]
    # The child of the fork was in the middle of the parent's module.
    names = nested([line for line in lines if "<module>" not in line])
    assert names["call __main__.Worker.run"] == names["return __main__.Worker.run"] == 1
    assert names["call __main__.work"] == names["return __main__.work"] == 3
    assert names["yield __main__.each"] == names["resume __main__.each"] == 2 + 1 + 3
    # A spawned child has the parent's module under another name.
    assert names["call __mp_main__.work"] == 1
    assert names["call __main__.other"] == 1
    processes = set(re.findall(r"vpid = (\d+)", " ".join(lines)))
    assert len(processes) >= 4
    (failed,) = [line for line in lines if "Worker.fail" in line and "python:return" in line]
    name = "ValueError" if sys.version_info >= (3, 12) else "unknown"
    assert f'exception = "{name}"' in failed


def test_calls_beside_other_events(rundir: Rundir) -> None:
    path = TREE / "examples" / "hello.py"
    lines, warnings = record(rundir, ["--python-calls", "--num-subbuf=8", "-e", "shop:*"], path)
    assert warnings == ""
    names = Counter(line.split()[0] for line in lines)
    assert names["shop:order"] == 300
    assert names["python:call"] > 0
    # Nothing of ours is the program's.
    assert not [line for line in lines if "ustconsumer" in line or "sitecustomize" in line]


@pytest.mark.parametrize("option", ["-I", "-S"])
def test_a_python_that_starts_nothing(rundir: Rundir, option: str) -> None:
    path = program(rundir, "print('hello')")
    result = rundir.drtrace("record", "--python-calls", "--", sys.executable, option, path)
    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == "hello"
    assert re.fullmatch(
        "Warning: no Python started that would record its calls: python -I, .*\n", result.stderr
    )


def test_modules_that_are_not_there(rundir: Rundir) -> None:
    path = program(rundir, "print('hello')")
    result = rundir.drtrace("record", "--python-calls", "shop", "--", *rundir.user.python(path))
    assert result.returncode == 0
    assert result.stderr == "Warning: no function of shop was called\n"
