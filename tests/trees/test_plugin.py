"""The pytest plug-in: its fixtures, and what the report of a failure has."""

from __future__ import annotations

import pytest

from tests.apps.lab import User

pytest_plugins = ["pytester"]

_TESTS = """
import subprocess

def test_a_view(view):
    with_card = view("umnet,ip=10.7.0.1/24")
    assert view("umnetnull").addresses() == []
    assert str(with_card.addresses()[0]) == "10.7.0.1/24"

def test_a_network(network):
    first = network.view("10.0.0.1/24", name="first")
    second = network.view("10.0.0.2/24", name="second")
    assert first.run(["ping", "-c1", "-W20", "10.0.0.2"]).returncode == 0
    server = first.popen(
        ["python3", "-uc", "import socket; s = socket.create_server(('', 80));"
         "print(1); s.accept()"],
        stdout=subprocess.PIPE,
    )
    with server.stdout:
        server.stdout.readline()
    assert not "a failure"
"""


@pytest.mark.view
def test_fixtures_and_the_report_of_a_failure(
    own: User, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(_TESTS)
    result = pytester.runpytest_subprocess("-W", "error", timeout=120)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- view first-*",
            "10.0.0.1/24*",
            "tcp listen 0.0.0.0:80 *",
            "*stack 0: umnetlwipv6, *",
            "*- view second-*",
        ]
    )
