"""Whose files and names a program finds: its view's, and those of its default stack."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.apps.lab import User
from tests.setting import umview

pytestmark = pytest.mark.view

_MSTACK = Path(sys.prefix) / "bin" / "mstack"
_CARDS = "cut -d: -f1 -s /proc/net/dev"
_TRACERS = pytest.mark.parametrize("tracer", ["seccomp", "ptrace"])


def words(text: str) -> list[str]:
    return text.split()


@_TRACERS
def test_cards_are_the_default_stacks_and_names_the_views(
    user: User, tracer: str
) -> None:
    """With mstack /proc/net and /sys/class/net tell of another stack; nothing else."""
    show = f"{_CARDS}; cat /sys/class/net/$0/mtu; uname -n; cat /etc/resolv.conf"
    script = f"""
        sh -c '{show}' nat0
        {_MSTACK} /dev/net/umnetlwipv61 sh -c '{show}' wr0
    """
    stacks = ("-p", "umnet,hostname=box,v4", "-p", "umnetlwipv6,wire=w,mtu=1400")
    view = umview("--tracer", tracer, *stacks, "sh", "-c", script)
    got = user.run(view, "native")
    name = ["box", "nameserver", "10.0.2.3"]
    assert words(got.stdout) == [
        *("lo", "nat0", "65500", *name),
        *("lo", "wr0", "1400", *name),
    ], got


def test_files_of_the_hosts_network_are_the_hosts(user: User) -> None:
    """Who has the host's network for a default would not reach the view's servers."""
    show = f"uname -n; cat /etc/resolv.conf; {_CARDS}"
    stacks = ("-p", "umnet,hostname=box", "-p", "umnetnative")
    inside = umview(*stacks, str(_MSTACK), "/dev/net/umnetnative1", "sh", "-c", show)
    got = user.run(inside, "native")
    assert words(got.stdout)[0] == os.uname().nodename
    assert got.stdout == user.run(["sh", "-c", show], "native").stdout


def test_who_has_no_network_sees_no_card(user: User) -> None:
    got = user.run(umview("-p", "umnetnull", "sh", "-c", _CARDS), "native")
    assert (got.stdout, got.stderr) == ("", "")


def test_everybody_names_the_view_but_not_who_has_names_of_his_own(user: User) -> None:
    script = """
        hostname box && uname -n && cat /proc/sys/kernel/hostname
        unshare -Ur --uts sh -c 'hostname tub && uname -n'; uname -n
    """
    got = user.run(["sh", "-c", script], "view")
    assert words(got.stdout) == ["box", os.uname().nodename, "tub", "box"], got


@_TRACERS
def test_a_view_inside_has_its_own_files_or_those_around_it(
    user: User, tracer: str
) -> None:
    """Names are copied when a view is made; files are the nearest view's."""
    show = "uname -n; cat /etc/resolv.conf; " + _CARDS
    other = " ".join(umview("-p", "umnet,v4,dns=192.0.2.7,hostname=tub"))
    null = " ".join(umview("-p", "umnetnull"))
    plain = " ".join(umview("-p", "umnetcurrent"))
    script = f"""
        {other} sh -c '{show}; {null} sh -c "{show}"; hostname vat; uname -n'
        {plain} sh -c 'hostname jar; {show}'
        {null} sh -c '{show}'
        uname -n
    """
    view = umview("--tracer", tracer, "-p", "umnet,v4,hostname=box", "sh", "-c", script)
    got = user.run(view, "native", timeout=120)
    inner = ["tub", "nameserver", "192.0.2.7"]
    outer = ["nameserver", "10.0.2.3"]
    assert words(got.stdout) == [
        *(*inner, "lo", "nat0", *inner, "vat"),
        *("jar", *outer, "lo", "nat0"),
        *("box", *outer),
        "box",
    ], got


def test_a_view_inside_has_files_where_the_outer_one_has_none(user: User) -> None:
    inner = umview("-p", "umnetlwipv6,wire=w,ip=10.9.8.7/24,dns=192.0.2.7", "sh", "-c")
    script = f"cat /etc/resolv.conf; {_CARDS}"
    for outer in ("umnetnative", "umnetnull"):
        got = user.run(umview("-p", outer, *inner, script), "native", timeout=60)
        assert words(got.stdout) == ["nameserver", "192.0.2.7", "lo", "wr0"], got
