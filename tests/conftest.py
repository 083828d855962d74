# SPDX-License-Identifier: MIT
"""Fixtures and markers of all tests; what they do lives in ``helpers``."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.apps import Apps, build
from helpers.killbuild import build_kill_ring
from helpers.peers import PEERS, need
from helpers.rundir import Rundir, private_rundir
from helpers.users import User, ordinary_user_alone, tester
from hypothesis import settings

_APPS_DIRECTORY: pytest.StashKey[Path] = pytest.StashKey()

# How long an example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=100_000)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="repeat as often as repeat(soak=...) says")


def pytest_configure(config: pytest.Config) -> None:
    # nohup and the shell's background jobs ignore some, and programs inherit that.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    # Not below pytest's own directories: those are 0700, and ordinary users run the programs.
    if hasattr(config, "workerinput"):
        config.stash[_APPS_DIRECTORY] = Path(config.workerinput["apps_directory"])
    else:
        config.stash[_APPS_DIRECTORY] = Path(tempfile.mkdtemp(prefix="ust-apps-", dir="/tmp"))


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[_APPS_DIRECTORY], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a new xdist worker where the programs are (a hook of xdist)."""
    node.workerinput["apps_directory"] = str(node.config.stash[_APPS_DIRECTORY])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("full_speed"):
            # One worker for all of them: each wants the machine's memory bandwidth for itself.
            item.add_marker(pytest.mark.xdist_group("full_speed"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("peers"):
        unknown = set(marker.args) - set(PEERS)
        assert not unknown, f"unknown peers {unknown}: see tests/helpers/peers.py"
        need(*marker.args)


@pytest.fixture
def repeat(request: pytest.FixtureRequest) -> int:
    """Return how often a test marked ``repeat(ci=N, soak=M)`` repeats its work."""
    marker = request.node.get_closest_marker("repeat")
    assert marker, "a test that uses the fixture repeat needs @pytest.mark.repeat(ci=..., soak=...)"
    count: int = marker.kwargs["soak" if request.config.getoption("--soak") else "ci"]
    return count


@pytest.fixture(scope="session")
def apps(request: pytest.FixtureRequest) -> Apps:
    """Return the compiled programs of ``tests/apps``, shared by the xdist workers."""
    need("gcc", "lttng-ust-headers")
    return build(request.config.stash[_APPS_DIRECTORY])


@pytest.fixture(scope="session")
def kill_ring(request: pytest.FixtureRequest) -> Path:
    """Return the build of ``_native.ring`` with kill points, shared by the xdist workers."""
    need("gcc", "cython")
    return build_kill_ring(request.config.stash[_APPS_DIRECTORY] / "kill")


@pytest.fixture
def user() -> Iterator[User]:
    """Give a user that is not root, and that no other test is at this time."""
    with ordinary_user_alone() as alone:
        yield alone


@pytest.fixture
def rundir() -> Iterator[Rundir]:
    """Give a private home and run directory of the user that runs the tests."""
    with private_rundir(tester()) as private:
        yield private


@pytest.fixture
def user_rundir(user: User) -> Iterator[Rundir]:
    """Give a private home and run directory of a user that is not root."""
    with private_rundir(user) as private:
        yield private
