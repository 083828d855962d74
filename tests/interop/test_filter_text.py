# SPDX-License-Identifier: MIT
"""Filter expressions: what we make of them is what the real lttng makes, byte for byte."""

from __future__ import annotations

import pytest
from helpers.lttng import lttng_sessiond

from ustconsumer.client.filter import FilterError, FilterProgram, compile_filter

pytestmark = pytest.mark.peers("lttng", "lttng-sessiond")

#: One expression per line, or nearly one: operands, numbers, text, operators, comments.
LINES = r"""
a
a == 1
a.b.c == 1
a->b == 1
a.b->c
a[1] == 2
a[1][2] == 3
a[1][2].x == 3
a[1].b[2].c
a . b [ 1 ] == 2
a[0x10]
a[-1]
a[b]
a[1.0]
a[(1)]
a["x"]
a[18446744073709551615] == 1
a[]
a.
.a
a.1
$ctx.vpid == 1
$ctx.vpid
$ctx
$app
$app.p
$app.p:c == 1
$app.p:c[1] == 1
$ctx.a.b == 1
$ctx.a[1] == 1
$foo.x == 1
a.$b == 1
$ctx.$x
:a == 1
a:b == 1
a1_:2 == 1
1a == 1
1
0
-1
+1
+a
- - a
!!a
~a
~~a == -a
!-~+a
-1 == a
1.5
!1.5
-1.5
1.5 == a
~1.5
~1.5 == a
~a == 1.5
a == 1.5
a == .5
a == 1.
a == 1e3
a == 1E-3
a == 1.5e+3f
a == 1.5L
a == 0x1p3
a == 0x1.8p1
a == 0x.8
a == 0x1.
a == 0x1.8f
a == 0x1.8p1f
a == 1e999
a == -1e999
a == 1e-999
a == 1f
a == 10
a == 0
a == 010
a == 00
a == 08
a == 0u
a == 010u
a == 1u
a == 1ul
a == 1ull
a == 1lu
a == 1LLU
a == 1llu
a == 1Lu
a == 1uu
a == 0xff
a == 0xFFull
a == 0XFF
a == 0xffffffffffffffff
a == 0x1ffffffffffffffff
a == 18446744073709551615
a == 18446744073709551616
a == 99999999999999999999999
a == 9223372036854775808
a == -9223372036854775808
a == 01777777777777777777777
a == 07777777777777777777777
a == "x"
a == ""
a == ''
a == 'x'
a == 'hello'
a == "it's"
a == 'say "x"'
a == L"x"
a == L'x'
L == 1
Lx == 1
a == "x
a == 'x
a == "a\"b"
a == "a\\b"
a == "a\\\\b"
a == "a\*b"
a == "\*"
a == "\\*"
a == "a\nb"
a == "\t"
a == "\x41"
a == "\101"
a == "a\"
a == "é"
a == "*"
a == "**"
a == "***"
a == "a*"
a == "a**"
a == "*a"
a == "**a"
a == "a*b"
a == "a**b*"
a == "a*\*"
a == "a\**"
a == "a\\*b"
a == "a\***b"
a != "a*b"
a > "x"
a > "x*"
a > "x*y"
a <= "*y"
"x" == a
"x*" == a
"*x" == a
"x" == "y"
"x*" == "y"
"x*y" == "y"
"x" == "y*z"
"x*" == "y*"
"x*y" == "y*z"
"x*" == "y*z"
"x*y" == "z*"
"x"
"x" && a
a || "b"
!"x"
-"a"
"x" == 1
1 == "x"
"x" == 1.5
"x" < "y"
("x") == a
("x*y") == (a)
"a" & 1
a & "x"
a & 1.5
1.5 & a
a | 1
a ^ 1
a << 1
a >> 1
a & b == 1
a == b & 1
a | b ^ c & d << e
a << b << c
a & b & c
a < b < c
a == b == c
a == b != c < d
a < b == c
a && b
a || b
a && b && c
a || b || c
a && b || c
a || b && c
(a || b) && c
a && (b || c)
a && (b && (c && d))
a && 1
1 && a
1.5 && a
a && 1.5
!1.5 && a
!a && b
-a && -b
~a || b
!(a) && b
(a) && (b)
((a)) && b
(a == 1) && b
!(a == 1) && b
a & 1 && b
a && b & 1
(a && b) == 1
(a && b) + 1
a + 1
a + 1 == 2
a - 1
a-1
a * 2
a / 2
a % 2
a -b
a == b /* comment */
a /* x */ == /* y * z ** */ 1
a == 1 // comment
a // comment
/* c */ a
a == /**/ 1
a =  = 1
a = 1
a === 1
a =! 1
a & & b
a &
&& a
a b
a 1
a ==
(a
a)
()
(a))
a,b
a;b
a?b
a@b
#
{a}
a ? 1 : 2
a	==	1
a == (b == (c == (d == e)))
a == (b == (c == (d == (e == (f == (g == h))))))
(((((((a)))))))
!(!(!(a)))
a && b == "x*y" || $ctx.procname != "z" && arr[3] > 1.5
_a == 1
a == 1L
a == 1lL
a<1
a>=1
a!=1
a>>1>0
a->b->c[4]->d == 1
"""
TEXTS = [
    *LINES.strip("\n").split("\n"),
    *("", " ", "a ==\n1", "a == 1\r", 'a == "x\ny"', "a\t==\t1"),
    *("(" * 60 + "a" + ")" * 60, "!" * 500 + "a", " && ".join(["a == 1"] * 60)),
    " || ".join(f"f{number}[{number}] == 1" for number in range(50)),
]

#: Notes the filters that its registry sends.
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
        return compile_filter(text)
    except FilterError:
        return None


def test_as_lttng_compiles_them() -> None:
    with lttng_sessiond() as lttng:
        home = lttng.rundir.home
        lttng("create", "filtered", "--output", home / "trace")
        lttng("enable-channel", "-u", "c")
        accepted = {}
        for number, text in enumerate(TEXTS):
            # The rules need not match the program's event: it is sent all of them.
            command = ["lttng", "--no-sessiond", "enable-event", "-u", "-c", "c", f"p:e{number}"]
            result = lttng.rundir.run([*command, "--filter", text])
            accepted[text] = result.returncode == 0
        lttng("start")
        result = lttng.rundir.run_python("-c", PROGRAM, home / "log")
        assert (result.returncode, result.stderr) == (0, "")
        sent = set()
        for line in (home / "log").read_text().splitlines():
            reloc_offset, code = line.split()
            sent.add(FilterProgram(bytes.fromhex(code), int(reloc_offset)))
    ours = {text: compiled(text) for text in TEXTS}
    decisions = {text: program is not None for text, program in ours.items()}
    assert {text for text in TEXTS if decisions[text] != accepted[text]} == set()
    assert {program for program in ours.values() if program is not None} == sent
    # About a third is refused: all alike would show nothing.
    assert 50 < sum(accepted.values()) < len(TEXTS) - 50
