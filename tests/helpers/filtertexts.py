# SPDX-License-Identifier: MIT
"""Generated filter expressions: such as ``lttng`` accepts, and such as it refuses.

They are made from the grammar in the facts (application protocol 8.4), not from our compiler:
a tree with the kinds of its operands, then its words, then anything between the words that
means nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["Refused", "refused_texts", "valid_texts"]

#: By how tightly they bind: facts, application protocol 8.4.
_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||",),
    ("&&",),
    ("==", "!="),
    ("<", ">", "<=", ">="),
    ("|",),
    ("^",),
    ("&",),
    ("<<", ">>"),
)
_BINDS = {sign: level for level, signs in enumerate(_LEVELS) for sign in signs}
_COMPARISONS = _LEVELS[2] + _LEVELS[3]
_BITS = ("|", "^", "&", "<<", ">>")
_OPERAND = len(_LEVELS)
#: Values that an interpreter has room for: facts, application protocol 8.3.
_MOST_VALUES = 8


class Node(NamedTuple):
    """An expression.

    Attributes
    ----------
    words : list of str
    kind : str
        "number", "real", "text", "prefix" (text with a star at its end), "glob", "field".
    binds : int
        The place of its operator in `_LEVELS`.
    values : int
        On the interpreter's stack at a time.
    """

    words: list[str]
    kind: str
    binds: int = _OPERAND
    values: int = 1


class Refused(NamedTuple):
    """An expression that is none; ``column`` is where it goes wrong, from 1 on."""

    text: str
    column: int


# -- operands ----------------------------------------------------------------------------


def _identifier(rng: random.Random) -> str:
    first = rng.choice(("a", "b", "x", "y", "A", "Z", "_", ":_", "::", "a:", "\\u00e9"))
    return first + "".join(rng.choice("abcXYZ019_:") for _ in range(rng.randrange(8)))


def _integer(rng: random.Random) -> str:
    edges = (0, 1, 7, 8, 255, (1 << 31) - 1, 1 << 31, (1 << 63) - 1, (1 << 64) - 1, 1 << 64)
    value = rng.choice((*edges, rng.getrandbits(32), rng.getrandbits(63)))
    suffix = rng.choice(
        ("", "", "", "u", "U", "l", "L", "ll", "LL", "ul", "UL", "uLL", "lu", "LLU", "Lu", "llu")
    )
    form = rng.randrange(4)
    if form == 0:
        digits = f"{value:x}"
        return "0x" + rng.choice((digits, digits.upper(), digits.zfill(16))) + suffix
    if form == 1:
        return f"0{value:o}{suffix}" if value else rng.choice(("00", "000u", "0"))
    return f"{value}{suffix}" if value else "0"


def _real(rng: random.Random) -> str:
    whole, part = str(rng.randrange(1000)), str(rng.randrange(1000))
    power = rng.choice("eE") + rng.choice(("", "+", "-")) + str(rng.randrange(30))
    suffix = rng.choice(("", "", "f", "F", "l", "L"))
    binary = rng.choice("pP") + rng.choice(("", "+", "-")) + str(rng.randrange(60))
    hexa = f"0x{rng.getrandbits(20):x}"
    return rng.choice(
        (
            f"{whole}.{part}{suffix}",
            f"{whole}.{suffix}",
            f".{part}{suffix}",
            f"{whole}{power}{suffix}",
            f"{whole}.{part}{power}{suffix}",
            f".{part}{power}",
            f"{hexa}{binary}",
            f"{hexa}.{part}{binary}{suffix}",
            f"{hexa}.{binary}",
            f"0x.{part}{binary}",
            "1e999",
            "0.1",
        )
    )


def _text(rng: random.Random) -> Node:
    pieces = [
        rng.choice(("a", "Z", "0", " ", "_", "\t", "é", "->", "/*", "//", "\\\\", "\\*", "*", "**"))
        for _ in range(rng.randrange(6))
    ]
    raw = "".join(pieces)
    # Pairs first, so that \\* is a backslash and a star.
    plain = raw.replace("\\\\", "b").replace("\\*", "s")
    # A star more behind the first one, at the end, and it is no prefix any more.
    kind = "text"
    if "*" in plain:
        kind = "prefix" if plain.index("*") == len(plain) - 1 else "glob"
    quote = rng.choice("\"'") if raw else '"'
    other = "'" if quote == '"' else '"'
    if raw and rng.random() < 0.2:
        raw = other + raw
    return Node([f"{rng.choice(('', '', '', 'L'))}{quote}{raw}{quote}"], kind)


def _field(rng: random.Random, most_indexes: int = 2) -> Node:
    words: list[str] = []
    steps = rng.choice((1, 1, 1, 2, 3))
    root = rng.random()
    if root < 0.25:
        known = ("vpid", "vtid", "procname", "pthread_id", "vuid", "cpu_id", "perf:thread:x")
        words += ["$ctx", rng.choice((".", ".", "->")), rng.choice((*known, _identifier(rng)))]
    elif root < 0.4:
        words += ["$app", rng.choice((".", "->")), f"{_identifier(rng)}:{_identifier(rng)}"]
    else:
        words.append(_identifier(rng))
    for step in range(steps):
        if step:
            words += [rng.choice((".", "->")), _identifier(rng)]
        for _ in range(min(rng.choice((0, 0, 0, 1, 1, 2)), most_indexes)):
            words += ["[", _integer(rng), "]"]
    return Node(words, "field")


def _operand(rng: random.Random, kinds: tuple[str, ...]) -> Node:
    kind = rng.choice(kinds)
    if kind == "number":
        return Node([_integer(rng)], "number")
    if kind == "real":
        return Node([_real(rng)], "real")
    if kind == "text":
        return _text(rng)
    return _field(rng)


# -- expressions -------------------------------------------------------------------------


def _inside(rng: random.Random, node: Node, binds: int) -> list[str]:
    """Return a node's words as an operand of what binds so tightly, in parentheses if need be."""
    if node.binds < binds or rng.random() < 0.15:
        return ["(", *node.words, ")"]
    return node.words


def _joined(rng: random.Random, sign: str, left: Node, right: Node) -> Node:
    binds = _BINDS[sign]
    # They bind to the left.
    words = [*_inside(rng, left, binds), sign, *_inside(rng, right, binds + 1)]
    logical = sign in ("&&", "||")
    return Node(words, "number", binds, max(left.values, right.values + (not logical)))


def _signed(rng: random.Random, node: Node) -> Node:
    signs = [rng.choice("+-!~") for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    return node._replace(words=[*signs, *_inside(rng, node, _OPERAND)], binds=_OPERAND)


def _number(rng: random.Random, depth: int) -> Node:
    """Return what bitwise operators take: no text, and no real number."""
    if depth <= 0 or rng.random() < 0.3:
        node = _operand(rng, ("number", "field", "field"))
    elif rng.random() < 0.5:
        node = _joined(rng, rng.choice(_BITS), _number(rng, depth - 1), _number(rng, depth - 1))
    else:
        node = _condition(rng, depth - 1)
    return _signed(rng, node) if rng.random() < 0.2 else node


def _comparable(rng: random.Random, depth: int) -> Node:
    if rng.random() < 0.25:
        node = Node([_real(rng)], "real")
        return _signed(rng, node) if rng.random() < 0.3 else node
    return _number(rng, depth)


def _comparison(rng: random.Random, depth: int) -> Node:
    sign = rng.choice(_COMPARISONS)
    if rng.random() < 0.35:
        left, right = _text(rng), _operand(rng, ("field", "field", "text"))
        stars = [node for node in (left, right) if node.kind in ("prefix", "glob")]
        if any(node.kind == "glob" for node in stars):
            sign = rng.choice(("==", "!="))
            if len(stars) == 2:
                right = _field(rng)
        if rng.random() < 0.5:
            left, right = right, left
        return _joined(rng, sign, left, right)
    return _joined(rng, sign, _comparable(rng, depth - 1), _comparable(rng, depth - 1))


def _condition(rng: random.Random, depth: int) -> Node:
    chance = rng.random()
    if depth <= 0 or chance < 0.1:
        return _operand(rng, ("field", "field", "number"))
    if chance < 0.45:
        left, right = (
            Node([_real(rng)], "real") if rng.random() < 0.05 else _condition(rng, depth - 1)
            for _ in range(2)
        )
        return _joined(rng, rng.choice(("&&", "||")), left, right)
    if chance < 0.85:
        return _comparison(rng, depth)
    if chance < 0.92:
        return _signed(rng, _condition(rng, depth - 1))
    return _number(rng, depth)


# -- words to text -----------------------------------------------------------------------


def _between(rng: random.Random, left: str, right: str) -> str:
    chance = rng.random()
    if chance < 0.08:
        return rng.choice(("/**/", " /* x == 'y */ ", "\t", "  ", "// a && b\n", "\n", "/***/ "))
    # What would be read as one word, or as the beginning of a comment or of a real number.
    apart = (
        (left[-1].isalnum() or left[-1] in "_:.$")
        and (right[0].isalnum() or right[0] in "_:.$L\"'")
    ) or f"{left}{right}" in ("<<", ">>", "--", "++", "&&", "||")
    name = left[-1].isalpha() or left[-1] == "_"
    member = "." in (left, right) and (name or left in (".", "]"))
    return " " if (apart and not member) or chance < 0.6 else ""


def _spelled(rng: random.Random, words: list[str]) -> tuple[str, list[int]]:
    """Return the text of words, and where in it each of them begins."""
    text, places = rng.choice(("", "", "", " ", "\t", "/* */")), []
    for number, word in enumerate(words):
        if number:
            text += _between(rng, words[number - 1], word)
        places.append(len(text))
        text += word
    return text + rng.choice(("", "", "", " ", "\n", " // end")), places


def valid_texts(rng: random.Random) -> Iterator[str]:
    """Yield expressions that are all different, without end."""
    seen = set()
    while True:
        node = _condition(rng, rng.choice((0, 1, 1, 2, 2, 3, 4)))
        text, _ = _spelled(rng, node.words)
        if node.values <= _MOST_VALUES and text not in seen:
            seen.add(text)
            yield text


# -- expressions with one fault ------------------------------------------------------------

_Fault = Callable[[random.Random], tuple[list[str], int]]


def _words_of(*kinds: str) -> Callable[[random.Random], list[str]]:
    return lambda rng: _operand(rng, kinds).words


def _text_of(rng: random.Random, *kinds: str) -> list[str]:
    while (node := _text(rng)).kind not in kinds:
        pass
    return node.words


def _behind(words: list[str], *more: str, at: int = 0) -> tuple[list[str], int]:
    """Return words and which is the fault: of those behind the others, the first or ``at``."""
    return [*words, *more], len(words) + at


def _unclosed(rng: random.Random) -> tuple[list[str], int]:
    # The innermost of those that are not closed.
    missing = rng.randrange(1, 4)
    return [*"(" * missing, "(", *_condition(rng, 2).words, ")"], missing - 1


def _faults() -> list[_Fault]:
    """Return what makes the words of a faulty expression, and says which of them is the fault.

    One more than there are is the end.
    """
    number = _words_of("number")

    def field(rng: random.Random) -> list[str]:
        # Of an index behind another one lttng does not look at everything.
        return _field(rng, most_indexes=0).words

    def condition(rng: random.Random) -> list[str]:
        return _condition(rng, 2).words

    return [
        # arithmetic
        lambda rng: _behind(field(rng), rng.choice("+-*/%"), *number(rng), "==", "1"),
        lambda rng: _behind(["(", *field(rng)], rng.choice("*/%"), *number(rng), ")", "!=", "1"),
        # something is missing, or too much
        lambda rng: _behind([*condition(rng), rng.choice(_COMPARISONS)]),
        lambda rng: _behind([*condition(rng), rng.choice(("&&", "||"))], ")"),
        lambda rng: _behind([], rng.choice(("==", "<", "&&", "||", "&", "<<")), *field(rng)),
        lambda rng: _behind(field(rng), *field(rng)),
        lambda rng: _behind(field(rng), *number(rng)),
        _unclosed,
        lambda rng: _behind(["(", *condition(rng), ")"], ")"),
        lambda rng: _behind(field(rng), "==", "(", ")", at=2),
        lambda rng: _behind(field(rng), "[", *field(rng), "]", at=1),
        lambda rng: _behind(field(rng), "[", _real(rng), "]", at=1),
        lambda rng: _behind(field(rng), "[", "-", "1", "]", at=1),
        lambda rng: _behind(field(rng), "[", "]", at=1),
        lambda rng: _behind([*field(rng), rng.choice((".", "->"))]),
        lambda rng: _behind([*field(rng), rng.choice((".", "->"))], '"x"'),
        # kinds that do not go together
        lambda rng: _behind(_text_of(rng, "text"), rng.choice(_COMPARISONS), *number(rng)),
        lambda rng: _behind(
            [_real(rng)], rng.choice(_COMPARISONS), *_text_of(rng, "text", "prefix")
        ),
        lambda rng: _behind(field(rng), rng.choice(_BITS), *_text_of(rng, "text")),
        lambda rng: _behind(field(rng), rng.choice(_BITS), _real(rng)),
        lambda rng: _behind(field(rng), rng.choice(_LEVELS[3]), *_text_of(rng, "glob")),
        lambda rng: _behind(_text_of(rng, "glob"), "==", *_text_of(rng, "prefix", "glob")),
        lambda rng: (_text_of(rng, "text"), 0),
        lambda rng: ([_real(rng)], 0),
        lambda rng: _behind(["(", *condition(rng), ")", "&&"], *_text_of(rng, "text")),
        lambda rng: ([*_text_of(rng, "prefix"), "||", *field(rng)], 0),
        lambda rng: ([rng.choice("-!~+"), *_text_of(rng, "text"), "==", *field(rng)], 0),
        # words that are none
        lambda rng: _behind([*field(rng), "=="], rng.choice(('"a', "'a", "L'", "''", "0X1"))),
        lambda rng: _behind(field(rng), rng.choice(("@", "#", "?", ",", ";", "{", "`", "=")), "1"),
        lambda rng: _behind([], rng.choice(("$ctx", "$app")), "==", "1"),
        lambda rng: _behind([], f"${_identifier(rng)}", ".", "a", "==", "1"),
    ]


def refused_texts(rng: random.Random, each: int) -> Iterator[Refused]:
    """Yield so many expressions with each fault, with only what must be between their words."""
    for fault in _faults():
        for _ in range(each):
            words, at = fault(rng)
            text = " ".join(words)
            before = " ".join(words[:at])
            column = len(text) if at == len(words) else len(before) + (1 if at else 0)
            yield Refused(text, column + 1)
