# SPDX-License-Identifier: MIT
"""Completion scripts, from what the command line consists of."""

from __future__ import annotations

from collections.abc import Callable

from ustconsumer.cli.grammar import Argument, arguments_of, verbs

__all__ = ["script"]

#: General options that stand before a verb and have a value.
_BEFORE = "--rundir|--group"
_DYNAMIC = ("session", "channel", "context", "level")


def script(shell: str) -> str:
    """Return the script for "bash", "zsh" or "fish"."""
    return _SHELLS[shell]()


def _tables() -> dict[str, list[Argument]]:
    return {verb: arguments_of(verb) for verb, _ in verbs()}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _completes(argument: Argument) -> str:
    """Return what the scripts call the values of an argument: a kind, or its choices."""
    if argument.choices:
        return " ".join(argument.choices)
    return f"@{argument.kind}" if argument.kind else ""


def _value_cases(tables: dict[str, list[Argument]]) -> list[str]:
    """Return lines of a `case` over "VERB OPTION", the same in bash and zsh."""
    lines: dict[str, list[str]] = {}
    for verb, arguments in tables.items():
        for argument in arguments:
            if argument.flags and argument.placeholder:
                patterns = [_quoted(f"{verb} {flag}") for flag in argument.flags]
                lines.setdefault(_completes(argument), []).extend(patterns)
    return [
        f"        {'|'.join(patterns)}) values={_quoted(values)};;"
        for values, patterns in lines.items()
    ]


def _word_cases(tables: dict[str, list[Argument]]) -> list[str]:
    """Return lines of a `case` over the verb: its options, and what its arguments may be."""
    lines = []
    for verb, arguments in tables.items():
        flags = " ".join(flag for each in arguments for flag in each.flags)
        values = " ".join(filter(None, (_completes(each) for each in arguments if not each.flags)))
        # The command that is recorded, with its files.
        values = "@command" if verb == "record" else values
        lines.append(
            f"        {_quoted(verb)}) options={_quoted(flags)} values={_quoted(values)};;"
        )
    return lines


def _find_verb(words: str, last: str) -> list[str]:
    """Return the lines that find the verb among the words so far."""
    groups = "|".join(sorted({verb.split()[0] for verb, _ in verbs() if " " in verb}))
    return [
        f"    while ((i < {last})); do",
        f"        word=${{{words}[i]}}",
        "        ((i += 1))",
        '        case "$verb:$word" in',
        f"        {':' + _BEFORE.replace('|', '|:')}) ((i += 1));;",
        "        *:-*) ;;",
        "        :help) ;;",
        f"        {'|'.join(f':{group}' for group in groups.split('|'))}) verb=$word;;",
        "        :*) verb=$word; break;;",
        '        *) verb="$verb $word"; break;;',
        "        esac",
        "    done",
    ]


def _first_words() -> str:
    return " ".join(dict.fromkeys(verb.split()[0] for verb, _ in verbs()))


def _second_words() -> list[str]:
    groups: dict[str, list[str]] = {}
    for verb, _ in verbs():
        first, _, second = verb.partition(" ")
        if second:
            groups.setdefault(first, []).append(second)
    return [
        f"        {first}) options='--help' values={_quoted(' '.join(seconds))};;"
        for first, seconds in groups.items()
    ]


def _bash() -> str:
    tables = _tables()
    return "\n".join(
        [
            "# bash completion of drtrace; made by `drtrace completion bash`",
            "_drtrace() {",
            "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}",
            "    local word verb= options= values= kind i=1",
            "    COMPREPLY=()",
            "    # --option=value is three words here.",
            "    if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then",
            "        prev=${COMP_WORDS[COMP_CWORD-2]}",
            "    fi",
            *_find_verb("COMP_WORDS", "COMP_CWORD"),
            '    case "$verb $prev" in',
            *_value_cases(tables),
            '    *) case "$verb" in',
            f"        '') options='--help --version' values={_quoted(_first_words())};;",
            *_second_words(),
            *_word_cases(tables),
            "        esac",
            "        if [[ $cur == -* ]]; then values=$options; fi;;",
            "    esac",
            "    word=$values values=",
            "    for kind in $word; do",
            "        case $kind in",
            "        @file)",
            '            COMPREPLY+=($(compgen -f -- "$cur"))',
            "            compopt -o filenames 2>/dev/null;;",
            '        @command) COMPREPLY+=($(compgen -c -- "$cur") $(compgen -f -- "$cur"));;',
            '        @*) values+=" $(drtrace completion --names "${kind#@}" 2>/dev/null)";;',
            '        *) values+=" $kind";;',
            "        esac",
            "    done",
            '    COMPREPLY+=($(compgen -W "$values" -- "$cur"))',
            "}",
            "complete -F _drtrace drtrace",
            "",
        ]
    )


def _zsh() -> str:
    tables = _tables()
    return "\n".join(
        [
            "#compdef drtrace",
            "# zsh completion of drtrace; made by `drtrace completion zsh`",
            "_drtrace() {",
            "    setopt localoptions noshwordsplit",
            "    local cur=${words[CURRENT]} prev=${words[CURRENT-1]}",
            "    local word verb= options= values= kind",
            "    local -i i=2",
            "    if [[ $cur == --*=* ]]; then prev=${cur%%=*}; compset -P '*='; fi",
            *_find_verb("words", "CURRENT"),
            '    case "$verb $prev" in',
            *_value_cases(tables),
            '    *) case "$verb" in',
            f"        '') options='--help --version' values={_quoted(_first_words())};;",
            *_second_words(),
            *_word_cases(tables),
            "        esac",
            "        if [[ $cur == -* ]]; then values=$options; fi;;",
            "    esac",
            "    for kind in ${=values}; do",
            "        case $kind in",
            "        @file) _files;;",
            "        @command) _command_names; _files;;",
            "        @*)",
            '            word=$(drtrace completion --names "${kind#@}" 2>/dev/null)',
            "            compadd -- ${(f)word};;",
            "        *) compadd -- $kind;;",
            "        esac",
            "    done",
            "}",
            "if [[ $funcstack[1] == _drtrace ]]; then",
            '    _drtrace "$@"',
            "else",
            "    compdef _drtrace drtrace",
            "fi",
            "",
        ]
    )


def _fish() -> str:
    lines = [
        "# fish completion of drtrace; made by `drtrace completion fish`",
        "function __drtrace_verb",
        "    set -l verb",
        "    set -l skip",
        "    for word in (commandline -opc)[2..-1]",
        '        if test -n "$skip"; set skip; continue; end',
        "        contains -- $word --rundir --group; and set skip yes",
        "        string match -q -- '-*' $word; and continue",
        "        set -a verb $word",
        "    end",
        '    test "$verb[1..2]" = "$argv"; and return 0',
        '    test "$verb[1]" = "$argv"',
        "end",
        "complete -c drtrace -f",
    ]
    first = dict.fromkeys(verb.split()[0] for verb, _ in verbs())
    summaries = dict(verbs())
    for verb in first:
        about = f" -d {_quoted(summaries[verb])}" if verb in summaries else ""
        lines.append(f"complete -c drtrace -n '__drtrace_verb \"\"' -a {verb}{about}")
    for verb, arguments in _tables().items():
        group, _, action = verb.partition(" ")
        when = f"-n {_quoted(f'__drtrace_verb {_quoted(verb)}')}"
        if action:
            only = f"-n {_quoted(f'__drtrace_verb {group}')}"
            lines.append(f"complete -c drtrace {only} -a {action} -d {_quoted(summaries[verb])}")
        for each in arguments:
            lines.append(_fish_line(when, each))
    return "\n".join([*filter(None, lines), ""])


def _fish_line(when: str, argument: Argument) -> str:
    words = _completes(argument)
    values = " ".join(
        f"(drtrace completion --names {word[1:]} 2>/dev/null)" if word[1:] in _DYNAMIC else word
        for word in words.split()
        if word != "@file"
    )
    files = " -F" if words == "@file" else ""
    given = f" -a {_quoted(values)}" if values else ""
    if not argument.flags:
        return f"complete -c drtrace {when}{files}{given}" if files or given else ""
    names = " ".join(
        f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in argument.flags
    )
    needs = (" -r" if files else " -x") if argument.placeholder else ""
    about = f" -d {_quoted(argument.help)}" if argument.help else ""
    return f"complete -c drtrace {when} {names}{needs}{files}{given}{about}"


_SHELLS: dict[str, Callable[[], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
