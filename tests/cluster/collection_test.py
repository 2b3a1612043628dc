#!/usr/bin/env python3
"""Agents write, fork, give up versions and are deleted on two nodes: the disks
and the memory that both lend shrink, and what lives reads right from both. Where
what was given up fills that memory, it is collected before its time.

Usage: collection_test.py DIRECTORY_OF_MEMD LIBAGENTMEM [UNITTEST ARGUMENTS]
"""

import json
import pathlib
import select
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True

import cluster as clusters  # noqa: E402
from agent_client import AgentClient  # noqa: E402
from block_client import Refused, content  # noqa: E402
from waiting import why_not  # noqa: E402

PROGRAMS = pathlib.Path(sys.argv[1]).resolve()
LIBRARY = pathlib.Path(sys.argv[2]).resolve()
REGION_BYTES = 1 << 20
COLLECT_MS = 20
COLLECTED_S = 30


def until(condition, what, seconds=COLLECTED_S):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what()}")
        select.select([], [], [], 0.05)


class Nodes(unittest.TestCase):
    collect_ms = COLLECT_MS

    def setUp(self):
        self.cluster = clusters.Cluster(2, PROGRAMS)
        self.addCleanup(self.cluster.close_well)
        for node in self.cluster.nodes:
            node.top["collect_ms"] = self.collect_ms
        self.cluster.start()
        self.versions = 0
        self.live = {}  # (agent, version) -> its bytes

    def client(self, name):
        client = AgentClient(LIBRARY, self.cluster.member(name).socket)
        self.addCleanup(client.__exit__)
        return client

    def memctl(self, node, command):
        done = subprocess.run(
            [PROGRAMS / "memctl", "--socket", node.socket, "-o", "json",
             command], text=True, capture_output=True, check=True)
        return json.loads(done.stdout)

    def stored_bytes(self, node):
        return sum(tenant["store"]["used_bytes"]
                   for tenant in self.memctl(node, "tenants")["tenants"])

    def lent_bytes(self, node):
        return self.memctl(node, "fabric")["pool"]["export_used_bytes"]

    def sizes(self):
        return {node.name: (self.stored_bytes(node), self.lent_bytes(node))
                for node in self.cluster.nodes}

    def commit_some(self, client, name, count, keeps=None):
        """Each version has bytes of its own in all of the region. `keeps`: so
        many stay."""
        with client.open(name, REGION_BYTES) as agent:
            for _ in range(count):
                self.versions += 1
                data = content(self.versions, REGION_BYTES)
                agent.write(data)
                version = agent.commit()
                self.live[name, version] = data
        mine = sorted(key for key in self.live if key[0] == name)
        for key in mine[:-keeps] if keeps else []:
            del self.live[key]

    def forget(self, name):
        for key in [key for key in self.live if key[0] == name]:
            del self.live[key]

    def expect_live(self, client):
        for (name, version), data in self.live.items():
            with client.open(name, version=version) as agent:
                self.assertEqual(agent.read(REGION_BYTES), data,
                                 f"{name}, version {version}")

    def expect_at_most(self, versions):
        """That many versions' bytes, on disks and in lent memory; and a third
        for what leads to them."""
        most = versions * REGION_BYTES * 4 // 3 + (256 << 10)
        until(lambda: all(stored <= most and lent <= most
                          for stored, lent in self.sizes().values()),
              lambda: f"at most {most} bytes each: {self.sizes()}")

    def comes(self, client, number):
        """The nodes share memory."""
        def commits():
            try:
                self.commit_some(client, f"first-{number}", 1)
                return True
            except Refused:
                return False
        until(commits, lambda: "a commit is taken", 10)
        client.delete(f"first-{number}")
        self.forget(f"first-{number}")


class Collection(Nodes):
    def test_what_no_version_needs_leaves_disks_and_lent_memory(self):
        one, two = self.client("n1"), self.client("n2")
        for number, client in enumerate((one, two)):
            self.comes(client, number)
        # Eight versions of two agents, made on either node.
        for client, name in ((one, "a"), (two, "b")):
            self.commit_some(client, name, 4)
        for client, name in ((two, "a"), (one, "b")):
            self.commit_some(client, name, 4)
        for client in (one, two):
            self.expect_live(client)
        full = self.sizes()
        for stored, lent in full.values():
            self.assertGreaterEqual(stored, 8 * REGION_BYTES)
            self.assertGreaterEqual(lent, 8 * REGION_BYTES)
        # Forks keep what they have, whatever becomes of their origin.
        two.fork("a", "a-fork")
        self.live["a-fork", 8] = self.live["a", 8]
        one.fork("b", "b-fork", 2)
        self.live["b-fork", 2] = self.live["b", 2]
        one.retain_last("a", 1)
        self.commit_some(two, "a", 2, keeps=1)
        two.delete("b")
        self.forget("b")
        self.expect_at_most(3)
        for client in (two, one):
            self.expect_live(client)
        # One that is made again is another one.
        self.commit_some(one, "b", 1)
        one.delete("a-fork")
        self.forget("a-fork")
        two.delete("b-fork")
        self.forget("b-fork")
        self.expect_at_most(2)
        for client in (one, two):
            self.expect_live(client)

    def test_a_node_that_was_dead_drops_what_was_given_up_meanwhile(self):
        one, two = self.client("n1"), self.client("n2")
        for number, client in enumerate((one, two)):
            self.comes(client, number)
        self.commit_some(one, "a", 6)
        self.commit_some(two, "b", 2)
        self.expect_live(two)
        node = self.cluster.member("n1")
        until(lambda: self.stored_bytes(node) >= 6 * REGION_BYTES,
              lambda: f"all are on a disk: {self.sizes()}")
        self.cluster.kill_member("n1")
        # n2 becomes alone: it can delete, and cannot commit.
        def deleted():
            try:
                two.delete("a")
                return True
            except Refused:
                return False
        until(deleted, lambda: "n1 is known to be dead", 20)
        self.forget("a")
        self.cluster.start_member("n1")
        self.expect_at_most(2)
        self.expect_live(self.client("n1"))
        self.expect_live(two)


class NoRoom(Nodes):
    collect_ms = 3_600_000

    def test_commits_go_on_though_what_was_given_up_fills_what_is_lent(self):
        region_bytes = 2 << 20
        clients = [self.client("n1"), self.client("n2")]
        for number, client in enumerate(clients):
            self.comes(client, number)
        agents = [client.open(f"agent-{number}", region_bytes)
                  for number, client in enumerate(clients)]
        for number, client in enumerate(clients):
            client.retain_last(f"agent-{number}", 1)
        # Twice what either node lends; each version has a copy on both.
        for _ in range(32):
            for agent in agents:
                self.versions += 1
                data = content(self.versions, region_bytes)
                agent.write(data)
                agent.commit()
        for agent in agents:
            agent.close()
        for number, client in enumerate(reversed(clients)):
            with client.open(f"agent-{1 - number}") as agent:
                self.assertEqual(
                    agent.read(region_bytes),
                    content(self.versions - number, region_bytes))
        shown = [self.memctl(node, "fabric") for node in self.cluster.nodes]
        for fabric in shown:
            self.assertGreater(fabric["early_collections"], 0)
        self.assertGreater(sum(fabric["early_dropped"] for fabric in shown), 0)


if __name__ == "__main__":
    missing = why_not()
    if missing is not None:
        print(f"collection_test: skipped: {missing}")
        sys.exit(0)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
