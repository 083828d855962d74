# SPDX-License-Identifier: MIT
"""Capture expressions: the worked examples of the facts, and what is refused."""

from __future__ import annotations

import pytest

from ustconsumer.client.capture import CaptureError, compile_capture


@pytest.mark.parametrize(
    ("text", "code", "reloc_offset"),
    [
        # Application facts, 8.5.
        ("int_field", "51 520200 01 0100" + b"int_field\0".hex(), 5),
        ("$ctx.vpid", "4f 520200 01 0100" + b"vpid\0".hex(), 5),
        ("arrf[1]", "51 520200 55 0100000000000000 01 0100" + b"arrf\0".hex(), 14),
        ("$app.p:c", "50 520200 01 0100" + b"p:c\0".hex(), 5),
        ("((a))", "51 520200 01 0100" + b"a\0".hex(), 5),
    ],
)
def test_worked_examples(text: str, code: str, reloc_offset: int) -> None:
    program = compile_capture(text)
    assert (program.code.hex(), program.reloc_offset) == (code.replace(" ", ""), reloc_offset)


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "name of a field"),
        ("3", 1, "name of a field"),
        ("a.b", 1, "members"),
        ("a + b", 3, "nothing else"),
        ("(a", 1, "never closed"),
        ("a[b]", 3, "index"),
        ("a[4294967296]", 1, "elements"),
        ("$app.p", 1, "PROVIDER:NAME"),
        ("$ctx", 1, "name of a context"),
        ("'", 1, "closing quote"),
        ("a" * 70000, 65537, "characters"),
    ],
)
def test_refused(text: str, column: int, words: str) -> None:
    with pytest.raises(CaptureError, match=f"capture, column {column}: .*{words}") as refused:
        compile_capture(text)
    assert refused.value.column == column
