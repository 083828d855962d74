# SPDX-License-Identifier: MIT
"""The verbs of triggers beside those of the real ``lttng``: same words, same exit codes."""

from __future__ import annotations

import json

import pytest
from helpers.lttng import lttng_sessiond
from helpers.registry import running_registry
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("lttng", "lttng-sessiond")

RULE = ["--condition", "event-rule-matches", "--type=user"]
#: Accepted by both.
ADDED = [
    [*RULE, "--name=flood:tick", "--action", "notify"],
    [
        *("--name=mine", "--condition", "event-rule-matches", "--type", "user:tracepoint"),
        *("--name=shop:*", "--exclude-name=shop:b,shop:c", "--exclude-name", "shop:d"),
        *("--log-level=INFO..", "--filter=number > 3", "--capture=number"),
        *("--capture=$ctx.vpid", "--capture=arr[3]"),
        *("--action", "notify", "--rate-policy=every:10"),
        *("--action", "snapshot-session", "s1", "--name=snap", "--max-size=10M", "--path=/tmp/x"),
        "--rate-policy=once-after:3",
        *("--action", "start-session", "s2", "--action", "stop-session", "s3"),
    ],
    ["--name=one", *RULE, "--log-level=WARNING", "--action", "notify", "--action", "notify"],
    ["--name=range", *RULE, "--log-level=INFO..EMERG", "--action=stop-session", "s"],
    ["--name=long", *RULE, "--log-level=TRACE_INFO..TRACE_EMERG", "--action", "notify"],
    ["--name=all", *RULE, "--log-level=..", "--action", "notify"],
    [*RULE, "--name=a,b", "--action", "notify"],
]
#: Refused by both.
REFUSED = [
    [],
    ["--action", "notify"],
    ["--condition", "event-rule-matches", "--action", "notify"],
    [*RULE],
    [*RULE, "--action", "dance"],
    [*RULE, "--action", "snapshot-session"],
    [*RULE, "--action", "notify", "s1"],
    ["--condition", "session-consumed-size", "--action", "notify"],
    [*RULE, "--log-level=..INFO", "--action", "notify"],
    [*RULE, "--log-level=..EMERG", "--action", "notify"],
    [*RULE, "--log-level=warning", "--action", "notify"],
    ["--owner-uid=99999999999999999999", *RULE, "--action", "notify"],
    [*RULE, "--action", "snapshot-session", "s", "--max-size=99999999999G"],
    [*RULE, "--log-level=EMERG..INFO", "--action", "notify"],
    [*RULE, "--log-level=LOUD", "--action", "notify"],
    [*RULE, "--action", "notify", "--rate-policy=each:3"],
    [*RULE, "--action", "notify", "--rate-policy=every:0"],
    [*RULE, "--action", "notify", "--rate-policy=every:x"],
    [*RULE, "--filter=a +", "--action", "notify"],
    [*RULE, "--capture=a + b", "--action", "notify"],
    [*RULE, "--capture=a.b", "--action", "notify"],
    [*RULE, "--name=abc", "--exclude-name=a", "--action", "notify"],
    [*RULE, "--action", "snapshot-session", "s", "--max-size=10x"],
    ["--name=mine", *RULE, "--name=other", "--action", "notify"],
]


def test_the_same_triggers(rundir: Rundir) -> None:
    with lttng_sessiond() as lttng:
        user = lttng.rundir.user.uid
        theirs = [lttng("add-trigger", *arguments) for arguments in ADDED]
        for arguments in REFUSED:
            command = ["lttng", "--no-sessiond", "add-trigger", *arguments]
            assert lttng.rundir.run(command).returncode == 1, arguments
        listed = lttng("list-triggers").replace(f"owner uid: {user}\n", "owner uid: USER\n")
        removed = lttng("remove-trigger", "mine")
        command = ["lttng", "--no-sessiond", "remove-trigger", "mine"]
        assert lttng.rundir.run(command).returncode == 1
    with running_registry(rundir):
        for arguments, said in zip(ADDED, theirs, strict=True):
            result = rundir.drtrace("--rundir", rundir.path, "add-trigger", *arguments)
            assert (result.returncode, result.stdout, result.stderr) == (0, said, "")
        for arguments in REFUSED:
            result = rundir.drtrace("--rundir", rundir.path, "add-trigger", *arguments)
            assert (result.returncode, result.stdout) == (1, ""), arguments
            assert result.stderr.count("\n") == 1
        ours = rundir.drtrace("--rundir", rundir.path, "list-triggers").stdout
        # What LTTng does not tell: how often each fired.
        lines = [line for line in ours.splitlines() if not line.startswith("  hits: ")]
        text = "\n".join([*lines, ""]).replace(
            f"owner uid: {rundir.user.uid}\n", "owner uid: USER\n"
        )
        assert text == listed
        assert ours.count("  hits: ") == len(ADDED)
        structures = json.loads(
            rundir.drtrace("--rundir", rundir.path, "--json", "list-triggers").stdout
        )
        assert [each["name"] for each in structures] == [
            line.removeprefix("- name: ") for line in lines if line.startswith("- name: ")
        ]
        result = rundir.drtrace("--rundir", rundir.path, "remove-trigger", "mine")
        assert (result.returncode, result.stdout) == (0, removed)
        result = rundir.drtrace("--rundir", rundir.path, "remove-trigger", "mine")
        assert result.returncode == 1
        assert "'mine'" in result.stderr
