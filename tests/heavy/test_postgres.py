"""PostgreSQL: a server of many processes, and the clients that come with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.apps.lab import Finished, Place, User, open_place, place_params

CONFIGURATION = """
listen_addresses = '*'
port = {port}
unix_socket_directories = '{folder}'
fsync = off
ssl = on
"""
EVERYBODY = """
local all all trust
host all all 0.0.0.0/0 trust
host all all ::/0 trust
host replication all 0.0.0.0/0 trust
"""


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs; Debian has them by version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    assert found, f"PostgreSQL's {name} is not installed"
    return str(found[-1])


@dataclass(frozen=True, slots=True)
class Database:
    """A running server."""

    place: Place
    folder: Path

    def at(self, family: int = 4) -> tuple[str, ...]:
        """Return the options with which a client at its site finds the server."""
        host, port = self.place.address(family), str(self.place.port)
        return ("-h", host, "-p", port, "-U", "tester")

    def psql(self, *commands: str, family: int = 4, status: int = 0) -> Finished:
        """Let psql carry out commands, and say what they give without ornaments."""
        return self.place.client.run(
            *(program("psql"), *self.at(family), "-XAtq", "-d", "postgres"),
            *(word for command in commands for word in ("-c", command)),
            status=status,
        )


@pytest.fixture(scope="module", params=place_params("native", "inside", "outward"))
def database(request: pytest.FixtureRequest, module_user: User) -> Iterator[Database]:
    """Make a data directory and serve it, as an ordinary user."""
    with open_place(module_user, request.param) as place:
        folder = place.server.folder
        data = folder / "data"
        place.server.run(
            *(program("initdb"), "-D", str(data), "-U", "tester", "-A", "trust"),
            *("--no-sync", "--locale", "C.UTF-8"),
            timeout=60,
        )
        place.server.run(
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-subj", "/CN=localhost", "-days", "2"),
            *("-keyout", str(data / "server.key"), "-out", str(data / "server.crt")),
        )
        (data / "postgresql.conf").write_text(
            CONFIGURATION.format(port=place.listen, folder=folder)
        )
        (data / "pg_hba.conf").write_text(EVERYBODY)
        with place.server.serve(
            *(program("postgres"), "-D", str(data)), says="ready to accept connections"
        ):
            yield Database(place, folder)


@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
def test_psql_asks_over_tcp(database: Database, family: int) -> None:
    got = database.psql(
        "create temporary table t as select n from generate_series(1, 100000) n",
        "select count(*), sum(n) from t",
        "select repeat('x', 3000000)",
        "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()",
        family=family,
    )
    total, long, encrypted = got.out.splitlines()
    assert total == "100000|5000050000"
    assert long == "x" * 3000000
    assert encrypted.startswith("t|TLSv1.")


def test_psql_asks_over_a_unix_socket(database: Database) -> None:
    got = database.place.server.run(
        *(program("psql"), "-h", str(database.folder), "-U", "tester", "-XAtq"),
        *("-p", str(database.place.listen), "-d", "postgres"),
        *("-c", "select inet_client_addr() is null, 6 * 7"),
    )
    assert got.out == "t|42\n"


def test_server_knows_where_its_client_is(database: Database) -> None:
    got = database.psql(
        "select inet_server_port(), family(inet_client_addr()), inet_client_port() > 0"
    )
    assert got.out == f"{database.place.listen}|4|t\n"


@pytest.mark.parametrize("mode", ["simple", "prepared"])
def test_pgbench_loads_the_server(database: Database, mode: str) -> None:
    pgbench = (program("pgbench"), *database.at())
    client = database.place.client
    client.run(*pgbench, "-i", "-q", "--no-vacuum", "postgres")
    got = client.run(
        *(*pgbench, "-n", "-c", "8", "-j", "2", "-T", "2", "-M", mode, "postgres")
    )
    assert "number of failed transactions: 0 " in got.out
    done = re.search(r"transactions actually processed: (\d+)", got.out)
    assert done is not None, got.out
    assert int(done[1]) > 50
    counted = database.psql("select count(*) >= " + done[1] + " from pgbench_history")
    assert counted.out == "t\n"


def test_pgbench_connects_for_every_transaction(database: Database) -> None:
    got = database.place.client.run(
        *(program("pgbench"), *database.at(), "-n", "-C", "-c", "4", "-t", "20"),
        *("-f", str(_script(database, "select 1;")), "postgres"),
    )
    assert "number of transactions actually processed: 80/80" in got.out


def test_listener_hears_a_notification(database: Database) -> None:
    client = database.place.client
    # psql looks for notifications after each query.
    script = _script(database, "listen news;\n" + "select pg_sleep(0.1);\n" * 200)
    ears = client.begin(
        program("psql"), *database.at(), "-XAtq", "-d", "postgres", "-f", str(script)
    )
    ears.wait_for("\n")
    database.psql("notify news, 'a word'")
    ears.wait_for('otification "news" with payload "a word"')
    ears.end()


def test_interrupt_cancels_a_query(database: Database) -> None:
    got = database.place.client.run(
        *("timeout", "-s", "INT", "-k", "20", "1"),
        *(program("psql"), *database.at(), "-d", "postgres"),
        *("-c", "select pg_sleep(60)"),
        status=124,
    )
    assert "canceling statement due to user request" in got.err


def test_statement_ends_at_its_time_limit(database: Database) -> None:
    got = database.psql("set statement_timeout = 200", "select pg_sleep(60)", status=1)
    assert "canceling statement due to statement timeout" in got.err


def test_client_learns_that_its_server_process_was_ended(database: Database) -> None:
    client = database.place.client
    script = _script(
        database, "select 'pid', pg_backend_pid();\nselect pg_sleep(60);\n"
    )
    victim = client.begin(
        program("psql"), *database.at(), "-XAtq", "-d", "postgres", "-f", str(script)
    )
    pid = re.search(r"pid\|(\d+)\n", victim.wait_for("\n"))
    assert pid is not None, victim.said()
    assert database.psql(f"select pg_terminate_backend({pid[1]})").out == "t\n"
    assert victim.finish().status == 2
    assert "terminating connection due to administrator command" in victim.said()


def test_dump_is_restored(database: Database) -> None:
    client, dump = database.place.client, database.place.client.folder / "dump"
    database.psql(
        "create table kept as select n, md5(n::text) m from generate_series(1, 20000) n"
    )
    client.run(
        *(program("pg_dump"), *database.at(), "-Fc", "-t", "kept", "-f", str(dump)),
        "postgres",
    )
    before = database.psql("select md5(string_agg(m, '' order by n)) from kept").out
    database.psql("drop table kept")
    client.run(
        program("pg_restore"), *database.at(), "-d", "postgres", str(dump), timeout=60
    )
    after = database.psql("select md5(string_agg(m, '' order by n)) from kept").out
    assert after == before
    database.psql("drop table kept")


def test_base_backup_streams(database: Database) -> None:
    target = database.place.client.folder / "backup"
    database.place.client.run(
        *(program("pg_basebackup"), *database.at(), "-D", str(target), "-X", "stream"),
        *("-c", "fast", "--no-sync"),
        timeout=60,
    )
    assert (target / "backup_manifest").stat().st_size > 1000


def _script(database: Database, text: str) -> Path:
    path = database.place.client.folder / "script.sql"
    path.write_text(text)
    return path
