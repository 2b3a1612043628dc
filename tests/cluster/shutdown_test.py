#!/usr/bin/env python3
"""Planned maintenance: memds that are stopped, not killed, lose no `state`
block that was acknowledged as replicated, in whatever order they stop.

Usage: shutdown_test.py DIRECTORY_OF_MEMD LIBAGENTMEM [UNITTEST ARGUMENTS]
"""

import itertools
import os
import pathlib
import re
import shutil
import signal
import sys
import unittest

sys.dont_write_bytecode = True

import cluster as clusters  # noqa: E402
from block_client import (DEADLINE_EXCEEDED, DURABLE, REPLICATED,  # noqa: E402
                          UNAVAILABLE, VISIBLE, BlockClient, Refused, content)
from waiting import until, why_not  # noqa: E402

PROGRAMS = pathlib.Path(sys.argv[1]).resolve()
LIBRARY = pathlib.Path(sys.argv[2]).resolve()
BLOCK_BYTES = 100_000
# Twice as much as a node's DRAM takes: most of it is only below.
DRAM = "16MiB"
COUNT = 320
NAMES = ("n1", "n2", "n3")


class ClusterCase(unittest.TestCase):
    def make(self, **options):
        self.cluster = clusters.Cluster(3, PROGRAMS, dram=DRAM, **options)
        self.addCleanup(self.cluster.close_well)

    def client(self, name, timeout_s=5):
        return BlockClient(LIBRARY, self.cluster.member(name).socket,
                           timeout_s)

    def put_replicated(self, name, numbers):
        """The first one as soon as there is a peer."""
        with self.client(name) as client:
            until(lambda: self.puts(client, 0),
                  f"a peer takes a copy of {name}'s")
            for number in numbers:
                client.put(number, content(number, BLOCK_BYTES), REPLICATED)

    def puts(self, client, number):
        try:
            client.put(number, content(number, BLOCK_BYTES), REPLICATED)
            return True
        except Refused:
            return False

    def start_nodes(self):
        for node in self.cluster.nodes:
            if not node.daemon.running:
                node.launch()
        for node in self.cluster.nodes:
            node.await_ready()
        for node in self.cluster.nodes:
            node.await_peers(set(NAMES) - {node.name})

    def got(self, client, number):
        """None: it has to be asked for once more."""
        try:
            return client.get(number)[0]
        except Refused as refused:
            if refused.code not in (DEADLINE_EXCEEDED, UNAVAILABLE):
                raise AssertionError(f"block {number}: {refused}\n"
                                     f"{self.cluster.tails()}") from None
            return None

    def expect_all(self, numbers):
        for name in NAMES:
            with self.client(name) as client:
                for number in numbers:
                    data = until(lambda n=number: self.got(client, n),
                                 f"{name} reads block {number}")
                    self.assertEqual(data, content(number, BLOCK_BYTES),
                                     f"{name}, block {number}")

    def stop_at_once(self, names):
        daemons = [self.cluster.member(name).daemon for name in names]
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            self.assertEqual(daemon.end(), 0, daemon.tail())

    def log(self, name):
        return self.cluster.member(name).daemon.log.read_text(errors="replace")


class GracefulStops(ClusterCase):
    def seal(self):
        keys = self.cluster.directory / "keys"
        keys.touch(mode=0o600)
        keys.write_text(f"1 {os.urandom(32).hex()}\n")
        for node in self.cluster.nodes:
            node.pool["keys"] = str(keys)

    def lose_machine(self, name):
        """It fails, with its disk; another one takes its name."""
        self.cluster.kill_member(name)
        shutil.rmtree(self.cluster.member(name).directory / "state")

    def test_one_after_another(self):
        self.make()
        self.cluster.start()
        self.put_replicated("n1", range(1, COUNT))
        for name in NAMES:
            self.stop_at_once([name])
        self.start_nodes()
        self.expect_all(range(1, COUNT))

    def test_all_at_the_same_moment(self):
        self.make()
        self.cluster.start()
        self.put_replicated("n1", range(1, COUNT))
        self.stop_at_once(NAMES)
        self.start_nodes()
        self.expect_all(range(1, COUNT))

    def without_the_machine_that_put_them(self):
        self.cluster.start()
        self.put_replicated("n1", range(1, COUNT))
        self.lose_machine("n1")
        self.stop_at_once(NAMES[1:])
        self.start_nodes()
        self.expect_all(range(1, COUNT))

    def test_without_the_machine_that_put_them(self):
        self.make()
        self.without_the_machine_that_put_them()
        written = re.search(r"wrote down .*, (\d+) \(\d+ bytes\) of those in the "
                            "memory that it lends", self.log("n2"))
        self.assertGreater(int(written[1]), 0)

    def test_sealed_without_the_machine_that_put_them(self):
        self.make()
        self.seal()
        self.without_the_machine_that_put_them()

    def test_a_rolling_restart(self):
        self.make()
        self.cluster.start()
        self.put_replicated("n1", range(1, COUNT))
        self.lose_machine("n1")
        self.start_nodes()
        for name in NAMES:
            self.stop_at_once([name])
            self.start_nodes()
        self.expect_all(range(1, COUNT))


class WithoutADisk(ClusterCase):
    """n1 serves its store; n2 and n3 have none."""

    def setUp(self):
        self.make(diskless=2)
        self.fresh = itertools.count(1000)
        self.cluster.start()
        for name in NAMES[1:]:
            self.await_store(name)

    def await_store(self, name):
        def keeps():
            number = next(self.fresh)
            try:
                with self.client(name) as client:
                    client.put(number, content(number, BLOCK_BYTES), DURABLE)
                return True
            except Refused:
                return False
        until(keeps, f"{name} reaches the store")

    def test_what_others_have_in_memory_goes_into_the_store(self):
        # Put while the store is away, and tried there once.
        self.cluster.kill_member("n1")
        self.put_replicated("n2", range(1, 60))
        self.cluster.start_member("n1")
        self.await_store("n2")
        for name in ("n2", "n3", "n1"):
            self.stop_at_once([name])
        written = re.search(r"wrote down (\d+)", self.log("n2"))
        self.assertGreater(int(written[1]), 0)
        self.start_nodes()
        self.expect_all(range(1, 60))

    def test_a_second_signal_ends_it_at_once(self):
        node = self.cluster.member("n2")
        # Its store neither answers nor is gone, for some 2 s.
        self.cluster.pause_member("n1")
        with self.client("n2") as client:
            client.put(1, content(1, BLOCK_BYTES), VISIBLE)
        node.daemon.signal(signal.SIGTERM)
        until(lambda: "draining: " in self.log("n2"), "it has begun")
        node.daemon.signal(signal.SIGINT)
        self.assertEqual(node.daemon.wait(5), 1)
        self.assertIn("told to stop twice", self.log("n2"))
        self.assertIn("not 1 (100000 bytes) of this node's", self.log("n2"))
        self.cluster.resume_member("n1")


if __name__ == "__main__":
    missing = why_not()
    if missing is not None:
        print(f"shutdown_test: skipped: {missing}")
        sys.exit(0)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
