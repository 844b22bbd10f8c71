"""Three nodes of a replicated store, and a network that breaks between them.

Each node is an etcd(1), unmodified, in a view of its own, with an address and ports of
its own; all are on one Ethernet, the fixture ``network`` of umview's pytest plug-in.
Needs Debian's etcd-server and etcd-client:

    pytest examples/replicated
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

import umview

SECONDS = 90.0  # for what a busy machine does at last
REFUSED_SECONDS = 3  # after which who has no majority is believed to have none
_T = TypeVar("_T")


class Node(NamedTuple):
    """A node of the store: its view and its address."""

    view: umview.View
    address: str

    def etcdctl(self, *words: str, seconds: float = SECONDS) -> str:
        """Ask the node, in its own view.

        Raises:
            subprocess.CalledProcessError: It does not do it, or not in time.
        """
        where = f"--endpoints=http://{self.address}:2379"
        done = self.view.run(
            ["etcdctl", where, f"--command-timeout={seconds}s", *words],
            env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        return str(done.stdout)

    def put(self, key: str, value: str, seconds: float = SECONDS) -> None:
        """Write; when this returns the store has promised to keep it."""
        self.etcdctl("put", key, value, seconds=seconds)

    def contents(self, *words: str, seconds: float = SECONDS) -> dict[str, str]:
        """Read all; unless words say otherwise, what the majority agrees upon."""
        said = self.etcdctl("get", "--prefix", "", *words, seconds=seconds)
        lines = said.splitlines()
        return dict(zip(lines[::2], lines[1::2], strict=True))

    def leads(self) -> bool:
        """Whether the node says that it is the leader."""
        (told,) = json.loads(self.etcdctl("endpoint", "status", "-w", "json"))
        status = told["Status"]
        return bool(status["leader"] == status["header"]["member_id"])


@pytest.fixture
def nodes(network: umview.Network, tmp_path: Path) -> Iterator[list[Node]]:
    """Start three nodes, and wait until they agree upon something."""
    addresses = {f"node{n}": f"10.0.0.{n}" for n in (1, 2, 3)}
    cluster = ",".join(f"{n}=http://{a}:2380" for n, a in addresses.items())
    nodes = []
    for name, address in addresses.items():
        node = Node(network.view(f"{address}/24", name=name), address)
        nodes.append(node)
        with (tmp_path / f"{name}.log").open("wb") as log:
            peers, clients = f"http://{address}:2380", f"http://{address}:2379"
            options = {
                "name": name,
                "data-dir": str(tmp_path / name),
                "listen-peer-urls": peers,
                "initial-advertise-peer-urls": peers,
                "listen-client-urls": clients,
                "advertise-client-urls": clients,
                "initial-cluster": cluster,
                "heartbeat-interval": "200",
                "election-timeout": "2000",
            }
            words = [f"--{option}={value}" for option, value in options.items()]
            node.view.popen(["etcd", *words], stdout=log, stderr=log)
    until(lambda: nodes[0].put("first", "write", seconds=5))
    yield nodes
    for node in nodes:
        node.view.shutdown(0)  # there is nothing to save


def until(act: Callable[[], _T]) -> _T:
    """Do something again and again until it can be done."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return act()
        except subprocess.CalledProcessError:
            if time.monotonic() > deadline:
                raise


def test_a_write_that_was_promised_survives_a_partition(
    network: umview.Network, nodes: list[Node]
) -> None:
    """The leader is cut off: the others choose another one, and it is outvoted."""
    (leader,) = [node for node in nodes if until(node.leads)]
    others = [node for node in nodes if node is not leader]
    leader.put("before", "the partition")

    network.partition([leader.view], [node.view for node in others])
    until(lambda: others[0].put("during", "the partition", seconds=5))
    assert others[1].contents()["during"] == "the partition"
    assert any(node.leads() for node in others)
    with pytest.raises(subprocess.CalledProcessError):
        leader.put("lonely", "write", seconds=REFUSED_SECONDS)
    with pytest.raises(subprocess.CalledProcessError):
        leader.contents(seconds=REFUSED_SECONDS)
    stale = leader.contents("--consistency=s")
    assert stale["before"] == "the partition"
    assert "during" not in stale

    network.heal()
    promised = {"first": "write", "before": "the partition", "during": "the partition"}
    for node in nodes:
        found = until(node.contents)
        assert found.items() >= promised.items()
    assert len({frozenset(node.contents().items()) for node in nodes}) == 1
