# SPDX-License-Identifier: MIT
"""Capture expressions: what we make of them is what the real lttng makes, byte for byte."""

from __future__ import annotations

import pytest
from helpers.lttng import lttng_sessiond

from ustconsumer.client.capture import CaptureError, compile_capture
from ustconsumer.client.filter import FilterProgram

pytestmark = pytest.mark.peers("lttng", "lttng-sessiond")

TEXTS = r"""
a
 a
a /* comment */
(a)
((a))
(a
a)
a[0]
a[3]
a [ 0x10 ]
a[010]
a[4294967295]
a[1][2]
(a[1])
a[1].b
a[-1]
a[b]
a[]
a[1.0]
a.b
a->b
a.
:a
a:b
$ctx.vpid
$ctx.procname
$ctx->vpid
$ctx.nothing
$ctx.vpid[0]
$ctx.a.b
$ctx.$a
$ctx
$ctx[0]
$foo.a
$a
$app.p:c
$app.p:c[1]
$app.p:c.d
$app.p:
$app.p
$app.:c
$app.p:c:d
$app
a b
a,b
a + b
a == 1
a && b
!a
-a
+a
~a
""".strip("\n").split("\n")

#: Notes the captures that its registry sends.
PROGRAM = """
import sys
from ustconsumer.tracer import Provider, bytecode

check = bytecode.check
log = open(sys.argv[1], "w", buffering=1)

def logged(code, reloc_offset):
    log.write(f"{reloc_offset} {bytes(code).hex()}\\n")
    return check(code, reloc_offset)

bytecode.check = logged
Provider("p").tracepoint("e")
"""


def compiled(text: str) -> FilterProgram | None:
    try:
        return compile_capture(text)
    except CaptureError:
        return None


def test_as_lttng_compiles_them() -> None:
    accepted = {}
    with lttng_sessiond() as lttng:
        home = lttng.rundir.home
        for number, text in enumerate(TEXTS):
            command = ["lttng", "--no-sessiond", "add-trigger", "--action=notify"]
            # As many events as triggers: equal notifiers would be one.
            rule = ["--condition=event-rule-matches", "--type=user", f"--name=p:e{number}"]
            result = lttng.rundir.run([*command, *rule, "--capture", text])
            accepted[text] = result.returncode == 0
        result = lttng.rundir.run_python("-c", PROGRAM, home / "log")
        assert (result.returncode, result.stderr) == (0, "")
        sent = set()
        for line in (home / "log").read_text().splitlines():
            reloc_offset, code = line.split()
            sent.add(FilterProgram(bytes.fromhex(code), int(reloc_offset)))
    ours = {text: compiled(text) for text in TEXTS}
    assert {text: program is not None for text, program in ours.items()} == accepted
    assert {program for program in ours.values() if program is not None} == sent
    assert 10 < sum(accepted.values()) < len(TEXTS) - 10
