#!/usr/bin/env python3
"""Nodes without a disk keep their blocks in the store of another one: durable
is on its disk, an agent wakes elsewhere, and a store that is away is an error
and no hang until it is back.

Usage: remote_store_test.py DIRECTORY_OF_MEMD LIBAGENTMEM [UNITTEST ARGUMENTS]
"""

import json
import os
import pathlib
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True

import cluster as clusters  # noqa: E402
from agent_client import AgentClient  # noqa: E402
from block_client import (DURABLE, REPLICATED,  # noqa: E402
                          RESOURCE_EXHAUSTED, UNAVAILABLE, BlockClient,
                          Refused, content)
from waiting import until, why_not  # noqa: E402

PROGRAMS = pathlib.Path(sys.argv[1]).resolve()
LIBRARY = pathlib.Path(sys.argv[2]).resolve()
BLOCK_BYTES = 100_000
REGION_BYTES = 24 << 20
SERVES = 96 << 20
# S has a disk, and serves it; D1 and D2 have none.
S, D1, D2 = "n1", "n2", "n3"


class RemoteStoreCase(unittest.TestCase):
    def setUp(self):
        self.cluster = clusters.Cluster(3, PROGRAMS, diskless=2, serve=SERVES)
        self.addCleanup(self.cluster.close_well)
        self.prepare()
        # One says whose store it means; the other takes what serves.
        self.cluster.member(D1).store["nodes"] = [S]
        self.cluster.start()
        for name in (D1, D2):
            until(lambda n=name: self.store_of(n)["reachable"],
                  f"{name} reaches the store")

    def prepare(self):
        """What else is in the configuration."""

    def client(self, name, timeout_s=5):
        return BlockClient(LIBRARY, self.cluster.member(name).socket,
                           timeout_s)

    def memctl(self, name, *arguments, **options):
        return subprocess.run(
            [PROGRAMS / "memctl", "--socket", self.cluster.member(name).socket,
             *arguments], check=False, capture_output=True, **options)

    def json_of(self, name, *arguments):
        done = self.memctl(name, "-o", "json", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def store_of(self, name):
        stores = self.json_of(name, "fabric")["pool"]["stores"]
        return stores[0] if stores else {"reachable": False}

    def write_region(self, name, agent, data):
        """Durably: memctl says so when it ends well."""
        return self.memctl(name, "region", "write", agent, "heap", "--bytes",
                           str(REGION_BYTES), input=data)

    def read_region(self, name, agent):
        return self.memctl(name, "region", "read", agent, "heap")

    def expect_blocks(self, name, numbers):
        with self.client(name) as client:
            for number in numbers:
                data, _ = client.get(number)
                self.assertEqual(data, content(number, BLOCK_BYTES), number)

    def has_no_store(self, name):
        return not (self.cluster.member(name).directory / "state" /
                    "store").exists()

    def durable_survives_both_nodes(self):
        """Acknowledged by D1, it is on S's disk, and there alone."""
        numbers = range(1, 40)
        with self.client(D1) as client:
            for number in numbers:
                client.put(number, content(number, BLOCK_BYTES), DURABLE)
        self.assertTrue(self.has_no_store(D1))
        self.cluster.kill_member(D1)
        self.cluster.kill_member(S)
        self.cluster.start_member(S)
        until(lambda: self.store_of(D2)["reachable"], "S is back")
        self.expect_blocks(D2, numbers)
        self.cluster.start_member(D1)
        until(lambda: self.store_of(D1)["reachable"], "D1 has met it")
        self.expect_blocks(D1, numbers)
        # Each block was read from the store's disk, or from what S read of it.
        self.expect_blocks(S, numbers)


class SealedRemoteStore(RemoteStoreCase):
    def prepare(self):
        keys = self.cluster.directory / "keys"
        keys.touch(mode=0o600)
        keys.write_text(f"1 {os.urandom(32).hex()}\n")
        for node in self.cluster.nodes:
            node.pool["keys"] = str(keys)

    def test_durable_survives_both_nodes(self):
        self.durable_survives_both_nodes()


class RemoteStore(RemoteStoreCase):
    def test_durable_survives_both_nodes(self):
        self.durable_survives_both_nodes()

    def test_a_hibernated_agent_wakes_on_another_node(self):
        data = os.urandom(REGION_BYTES)
        wrote = self.write_region(D1, "coder", data)
        self.assertEqual(wrote.returncode, 0, wrote.stderr)
        slept = self.memctl(D1, "agent", "hibernate", "coder")
        self.assertEqual(slept.returncode, 0, slept.stderr)
        self.cluster.kill_member(D1)
        got = until(lambda: self.reads_as(D2, "coder", data), "D2 reads it")
        self.assertTrue(got)
        # And it goes on there, as its writer.
        more = os.urandom(REGION_BYTES)
        until(lambda: self.write_region(D2, "coder", more).returncode == 0,
              "D2 writes it")
        self.assertTrue(self.reads_as(D2, "coder", more))

        self.cluster.kill_member(S)
        began = time.monotonic()
        failed = self.write_region(D2, "coder", data)
        self.assertNotEqual(failed.returncode, 0)
        self.assertLess(time.monotonic() - began, 40)
        self.assertIn(S.encode(), failed.stderr)
        until(lambda: not self.store_of(D2)["reachable"], "D2 says so")
        names = [reason["name"] for reason in
                 self.json_of(D2, "status")["health"]["reasons"]]
        self.assertIn("store_unreachable", names)

        self.cluster.start_member(S)
        until(lambda: self.write_region(D2, "coder", data).returncode == 0,
              "D2 writes again", 20)
        self.assertTrue(self.reads_as(D2, "coder", data))

    def reads_as(self, name, agent, data):
        """False: it cannot be read now. Other bytes are an error."""
        done = self.read_region(name, agent)
        if done.returncode != 0:
            self.assertEqual(done.returncode, 1, done.stderr)
            return False
        self.assertTrue(done.stdout == data, f"{name} reads other bytes")
        return True

    def test_an_open_region_says_at_once_that_a_page_cannot_be_had(self):
        data = os.urandom(REGION_BYTES)
        wrote = self.write_region(D1, "coder", data)
        self.assertEqual(wrote.returncode, 0, wrote.stderr)
        # Only S has its pages now.
        self.cluster.kill_member(D1)
        client = AgentClient(LIBRARY, self.cluster.member(D2).socket, 30)
        with client, client.open("coder") as agent:
            self.assertEqual(agent.read(100), data[:100])
            self.cluster.kill_member(S)
            until(lambda: not self.store_of(D2)["reachable"], "D2 says so")
            began = time.monotonic()
            with self.assertRaises(Refused) as refused:
                agent.read(65536, REGION_BYTES - 65536)
            self.assertLess(time.monotonic() - began, 15)
            self.assertEqual(refused.exception.code, UNAVAILABLE)
            self.assertIn("region heap", str(refused.exception))
            self.cluster.start_member(S)
            until(lambda: self.store_of(D2)["reachable"], "S is back")
            self.assertEqual(agent.read(REGION_BYTES), data)

    def test_without_the_store_errors_come_in_time_and_copies_are_read(self):
        with self.client(D1) as client:
            client.put(1, content(1, BLOCK_BYTES), REPLICATED)
            client.put(2, content(2, BLOCK_BYTES), DURABLE)
        self.cluster.kill_member(S)
        with self.client(D1, timeout_s=3) as client:
            began = time.monotonic()
            with self.assertRaises(Refused) as refused:
                client.put(3, content(3, BLOCK_BYTES), DURABLE)
            self.assertEqual(refused.exception.code, UNAVAILABLE)
            self.assertIn(S, str(refused.exception))
            self.assertLess(time.monotonic() - began, 3.5)
            self.assertEqual(client.get(1)[0], content(1, BLOCK_BYTES))
            with self.assertRaises(Refused) as refused:
                client.get(77)
            self.assertEqual(refused.exception.code, UNAVAILABLE)
        self.cluster.start_member(S)
        with self.client(D1) as client:
            until(lambda: self.puts(client, 3), "it takes blocks again")
        # What was not acknowledged while it was away goes there now.
        until(lambda: self.json_of(D1, "tenants")["tenants"][0]
              ["dirty_bytes"] == 0, "nothing waits any more")
        self.expect_blocks(D2, (2, 3))

    def puts(self, client, number):
        try:
            client.put(number, content(number, BLOCK_BYTES), DURABLE)
            return True
        except Refused as refused:
            if refused.code != UNAVAILABLE:
                raise
            return False

    def test_a_budget_that_is_used_up_says_whose_it_is(self):
        with self.client(D1) as client:
            number = 0
            with self.assertRaises(Refused) as refused:
                while number * BLOCK_BYTES < 2 * SERVES:
                    number += 1
                    client.put(number, content(number, BLOCK_BYTES), DURABLE)
            self.assertEqual(refused.exception.code, RESOURCE_EXHAUSTED)
            self.assertIn(S, str(refused.exception))
        self.assertGreater(number * BLOCK_BYTES, SERVES * 0.9)
        self.assertLess(number * BLOCK_BYTES, SERVES * 1.1)
        self.assertIn("`serve`", self.store_of(D1)["text"])
        names = [reason["name"] for reason in
                 self.json_of(D1, "status")["health"]["reasons"]]
        self.assertIn("store_refuses", names)
        self.expect_blocks(D2, range(1, number, 7))
        # It would end with 1, and name what it could not write down.
        self.cluster.kill_member(D1)

    def test_d1_comes_back_while_s_is_gone_and_serves(self):
        with self.client(D1) as client:
            client.put(5, content(5, BLOCK_BYTES), DURABLE)
        self.cluster.kill_member(S)
        self.cluster.kill_member(D1)
        self.cluster.start_member(D1)
        with self.client(D1, timeout_s=3) as client:
            with self.assertRaises(Refused):
                client.put(6, content(6, BLOCK_BYTES), DURABLE)
            # Of block 5 it knows nothing any more; that is no miss.
            with self.assertRaises(Refused) as refused:
                client.get(5)
            self.assertEqual(refused.exception.code, UNAVAILABLE)
        self.cluster.start_member(S)
        with self.client(D1) as client:
            until(lambda: self.puts(client, 6), "it takes blocks again")
        self.expect_blocks(D1, (5, 6))


if __name__ == "__main__":
    missing = why_not()
    if missing is not None:
        print(f"remote_store_test: skipped: {missing}")
        sys.exit(0)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
