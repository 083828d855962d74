# SPDX-License-Identifier: MIT
"""Filter expressions: what we make of them is what the real lttng makes, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice

import pytest
from helpers.filtertexts import refused_texts, valid_texts
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
#: What the facts show that lttng sends (application protocol 8.5): in hexadecimal or, with a
#: zero at its end, as text; instructions | symbols.
FACTS = {
    "int_field == 3": '3bffff 41 0300000000000000 0c 01 | 0000 "int_field"',
    'int_field > 2 && str_field == "hel*"': (
        '3bffff 41 0200000000000000 0e 39 1a00 3bffff 40 "hel*" 0c 01 | '
        '0000 "int_field" 1000 "str_field"'
    ),
    "$ctx.vpid != 10 || !(dbl < 2.5)": (
        "46ffff 41 0a00000000000000 0d 3a 1e00 3bffff 42 0000000000000440 0f 32 01 | "
        '0000 "$ctx.vpid" 1000 "dbl"'
    ),
    "(int_field & 0xff) == 1 || arrf[1] == 2": (
        "3bffff 41 ff00000000000000 09 41 0100000000000000 0c 3a 3200 51 52 0e00 "
        "55 0100000000000000 56 41 0200000000000000 0c 01 | "
        '0000 "int_field" 1b00 "arrf"'
    ),
    '$app.myprov:myctx == "foo" && -int_field < -0x10': (
        '46ffff 40 "foo" 0c 39 1b00 3bffff 31 41 1000000000000000 31 0f 01 | '
        '0000 "$app.myprov:myctx" 0c00 "int_field"'
    ),
    'str_field != "a*b"': '3bffff 4c "a*b" 0d 01 | 0000 "str_field"',
    '"abc" == str_field || ~i8 >= 1 << 2': (
        '40 "abc" 3bffff 0c 3a 2400 3bffff 62 41 0100000000000000 41 0200000000000000 08 10 01 | '
        '0500 "str_field" 0c00 "i8"'
    ),
    "int_field": '3bffff 01 | 0000 "int_field"',
    "a.b.c == 1": '3bffff 41 0100000000000000 0c 01 | 0000 "a.b.c"',
}

TEXTS = [
    *LINES.strip("\n").split("\n"),
    *("", " ", "a ==\n1", "a == 1\r", 'a == "x\ny"', "a\t==\t1"),
    *FACTS,
    *("(" * 60 + "a" + ")" * 60, "!" * 500 + "a", " && ".join(["a == 1"] * 60)),
    " || ".join(f"f{number}[{number}] == 1" for number in range(50)),
]

#: Notes the filters that its registry sends, and the rules that they are of.
PROGRAM = """
import sys
from ustconsumer.tracer import Provider, bytecode
from ustconsumer.tracer.rules import Rule

check, add_filter = bytecode.check, Rule.add_filter
log = open(sys.argv[1], "w", buffering=1)
last = ""

def noted(code, reloc_offset):
    global last
    last = f"{reloc_offset} {bytes(code).hex()}"
    return check(code, reloc_offset)

def added(self, filter_):
    log.write(f"{self.pattern} {last}\\n")
    add_filter(self, filter_)

bytecode.check, Rule.add_filter = noted, added
Provider("p").tracepoint("e")
"""

#: Refused by us alone: lttng compares with another number than was written, takes an index
#: that is none, or finds no fault in what a mistake has made a comment.
ONLY_OURS = {
    "a == 0x000000000000000001": 6,
    "a == 000000000000000000000001": 6,
    "a == 100000000000000000000": 6,
    "a[100000000000000000000]": 3,
    "a[1][-1]": 6,
    'a[1]["x"] == 1': 6,
    "a[1][(2)]": 6,
    "a.b[1][x] == 1": 8,
    "a == 1 /* && b == 2": 8,
}

SEED = 85
#: Of generated expressions: so many that lttng accepts, and so many with each fault.
VALID, EACH_FAULT = 500, 4


def compiled(text: str) -> FilterProgram | None:
    try:
        return compile_filter(text)
    except FilterError:
        return None


def sent_by_lttng(texts: Sequence[str]) -> list[FilterProgram | None]:
    """Return what the real lttng makes of each expression, None where it refuses it."""
    with lttng_sessiond() as lttng:
        home = lttng.rundir.home
        lttng("create", "filtered", "--output", home / "trace")
        lttng("enable-channel", "-u", "c")
        accepted = []
        for number, text in enumerate(texts):
            # The rules need not match the program's event: it is sent all of them.
            command = ["lttng", "--no-sessiond", "enable-event", "-u", "-c", "c", f"p:e{number}"]
            result = lttng.rundir.run([*command, "--filter", text])
            accepted.append(result.returncode == 0)
        lttng("start")
        result = lttng.rundir.run_python("-c", PROGRAM, home / "log")
        assert (result.returncode, result.stderr) == (0, "")
        sent: list[FilterProgram | None] = [None] * len(texts)
        for line in (home / "log").read_text().splitlines():
            name, reloc_offset, code = line.split()
            sent[int(name.removeprefix("p:e"))] = FilterProgram(
                bytes.fromhex(code), int(reloc_offset)
            )
    assert [program is not None for program in sent] == accepted
    return sent


def differing(texts: Sequence[str]) -> dict[str, tuple[FilterProgram | None, FilterProgram | None]]:
    """Return what is compiled otherwise than by lttng, as (by lttng, by us)."""
    return {
        text: (theirs, ours)
        for text, theirs in zip(texts, sent_by_lttng(texts), strict=True)
        if theirs != (ours := compiled(text))
    }


def test_as_lttng_compiles_them() -> None:
    different = differing([*TEXTS, *ONLY_OURS])
    assert [text for text in different if text not in ONLY_OURS] == []
    # What it makes of those is sent; we make nothing of them.
    assert [theirs is not None for theirs, _ in different.values()] == [True] * len(ONLY_OURS)
    # About a third is refused: all alike would show nothing.
    assert 50 < sum(compiled(text) is not None for text in TEXTS) < len(TEXTS) - 50


def test_as_lttng_compiles_generated_ones() -> None:
    rng = random.Random(SEED)  # noqa: S311 (the same for a seed)
    valid = list(islice(valid_texts(rng), VALID))
    refused = list(refused_texts(rng, EACH_FAULT))
    assert len(refused) >= 100
    assert differing([*valid, *(each.text for each in refused)]) == {}
    # What was meant to be valid is, and what was not is not.
    assert [text for text in valid if compiled(text) is None] == []
    assert [each for each in refused if compiled(each.text) is not None] == []


def test_refused_with_place_and_reason() -> None:
    for text, column in refused_texts(random.Random(SEED), 50):  # noqa: S311 (the same)
        with pytest.raises(FilterError) as refused:
            compile_filter(text)
        assert (text, refused.value.column) == (text, column)
        assert refused.value.what
        assert str(refused.value) == f"filter, column {column}: {refused.value.what}"


def assembled(text: str) -> bytes:
    """Return the bytes of a fact's notation."""
    return b"".join(
        word.strip('"').encode() + b"\0" if word.startswith('"') else bytes.fromhex(word)
        for word in text.split()
    )


def test_what_lttng_misunderstands_is_refused() -> None:
    for text, column in ONLY_OURS.items():
        with pytest.raises(FilterError, match=rf"^filter, column {column}: "):
            compile_filter(text)


@pytest.mark.parametrize("text", FACTS)
def test_the_facts_examples(text: str) -> None:
    code, symbols = FACTS[text].split(" | ")
    program = FilterProgram(assembled(code) + assembled(symbols), len(assembled(code)))
    assert compile_filter(text) == program
