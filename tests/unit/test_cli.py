from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from umview import __version__, cli
from umview.errors import UmviewError


@pytest.fixture(autouse=True)
def _interrupts() -> Iterator[None]:
    """Keep pytest's own Ctrl-C."""
    kept = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, kept)


def test_without_module_it_is_umnet() -> None:
    request = cli.parse(["curl", "http://x/"])
    assert request.mounts == ()
    assert request.command == ("curl", "http://x/")


@pytest.mark.parametrize(
    "words",
    [["-p", "a,b", "-pc", "-V", "n", "-v"], ["-vVn", "-p", "a,b", "-p", "c"]],
)
def test_options_are_read_in_any_form(words: list[str]) -> None:
    request = cli.parse([*words, "true"])
    assert request.mounts == ("a,b", "c")
    assert request.name == "n"
    assert request.is_verbose


@pytest.mark.parametrize(
    "command",
    [["ls", "-p", "x"], ["ls", "--version"], ["help"], ["ls", "--", "-v"]],
)
def test_options_end_where_the_command_begins(command: list[str]) -> None:
    request = cli.parse(["-v", *command])
    assert request.command == tuple(command)
    assert request.text is None


def test_running_program_needs_no_command() -> None:
    request = cli.parse(["-v", "--pid", "4711"])
    assert (request.pid, request.command) == (4711, ())


def test_two_dashes_end_the_options() -> None:
    assert cli.parse(["--", "-v"]).command == ("-v",)


@pytest.mark.parametrize("tracer", ["auto", "seccomp", "ptrace"])
def test_known_tracers_are_taken(tracer: str) -> None:
    assert cli.parse(["--tracer", tracer, "true"]).tracer == tracer


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "no command"),
        (["-v"], "no command"),
        (["--tracer", "magic", "true"], "auto, seccomp, ptrace"),
        (["--frobnicate", "true"], "--tracer"),
        (["-x", "true"], "-p, -f, -V, -v"),
        (["-p"], "-p"),
        (["--pid", "x"], "--pid x"),
        (["--pid", "-1"], "--pid -1"),
        (["--pid", "0"], "--pid 0"),
        (["--pid", "4711", "true"], "not both"),
        (["--pid", "4711", "--trace"], "--trace=FILE"),
        (["--json", "true"], "--trace"),
        (["--trace-file=x", "true"], "--trace"),
    ],
)
def test_nonsense_is_refused_in_one_line(words: list[str], named: str) -> None:
    with pytest.raises(UmviewError) as caught:
        cli.parse(words)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_trace_goes_to_stderr_or_to_a_file() -> None:
    plain = cli.parse(["true", "--trace=x"])
    assert not plain.is_traced
    assert plain.command == ("true", "--trace=x")
    request = cli.parse(["--trace", "-v", "true"])
    assert (request.is_traced, request.trace_file) == (True, None)
    request = cli.parse(["--json", "--trace=some=file", "true", "--trace=x"])
    assert (request.trace_file, request.is_json) == ("some=file", True)
    assert request.command == ("true", "--trace=x")


def test_help_and_version_are_shown() -> None:
    assert "Examples" in (cli.parse(["--help"]).text or "")
    assert __version__ in (cli.parse(["--version"]).text or "")
    assert cli.parse(["true"]).text is None


def test_main_prints_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["umview", "--help"])
    assert cli.main() == 0
    assert capsys.readouterr().out.startswith("Usage: umview")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            ["-p", "umnope", "true"],
            "umnet, umnetcurrent, umnetlink, umnetlwipv6, umnetnative, umnetnull",
        ),
        (["-p", "umnet,nope", "true"], "fwd="),
        (["-p", "umnetnull,v4", "true"], "no options"),
    ],
)
def test_main_names_what_is_known_and_fails_with_125(
    words: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["umview", *words])
    monkeypatch.setattr("signal.pthread_sigmask", lambda *_: set())
    assert cli.main() == 125
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("umview: ")
    assert named in line
