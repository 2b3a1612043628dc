#!/usr/bin/env python3
"""Two memds over real verbs, one at each end of the wire of run-in-rdma-vm:
what a client puts on one, another reads on the other, through a death, a cut
wire and a proper end.

Usage, in the virtual machine:
memd_rdma_test.py DIRECTORY_OF_MEMD LIBAGENTMEM [UNITTEST ARGUMENTS]
"""

import ctypes
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent /
                       "cluster"))

from agent_client import AgentClient  # noqa: E402
from block_client import (DEADLINE_EXCEEDED, REPLICATED,  # noqa: E402
                          UNAVAILABLE, BlockClient, Refused, content)
from cluster import Node  # noqa: E402
from daemons import Daemon  # noqa: E402

PROGRAMS = pathlib.Path(sys.argv[1]).resolve()
LIBRARY = pathlib.Path(sys.argv[2]).resolve()
ADDRESSES = {"n1": os.environ.get("RXE0_ADDR"),
             "n2": os.environ.get("RXE1_ADDR")}
DEVICES = {"n1": "rxe0", "n2": "rxe1"}
ETCD = "http://127.0.0.1:2379"
LENGTHS = (1, 7, 4095, 65536, 262144, 524289, 1 << 20, 4 << 20)
REGION_BYTES = 40 << 20
SPARE_BYTES = 8 << 20  # lent to regions, though they use nothing
PATIENCE_S = 30
PR_SET_PDEATHSIG = 1


class SameNetwork:
    """Instead of a namespace: rxe is in the first one only."""

    def enter(self):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S} s: {what}")
        select.select([], [], [], 0.05)


def lose(percent):
    """Of the packets, either way."""
    for device in ("rdma0", "rdma1"):
        subprocess.run(["tc", "qdisc", "replace", "dev", device, "root",
                        "netem", "loss", percent], check=True)


class TwoNodes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        directory = pathlib.Path(cls.temporary.name)
        peers = "http://127.0.0.1:2380"
        cls.etcd = Daemon("etcd", [
            "etcd", "--name=etcd", f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=etcd={peers}", "--log-level=error"],
            directory / "etcd.log", SameNetwork())
        cls.etcd.launch()
        cls.nodes = {}
        for name, address in ADDRESSES.items():
            node = Node(name, directory / name, address, PROGRAMS,
                        SameNetwork())
            node.top["dram"] = node.pool["export"] = "64MiB"
            node.cluster.update(name="verbs", etcd=[ETCD], insecure=True)
            node.fabric["require_rdma"] = True
            cls.nodes[name] = node
            node.launch()
        for node in cls.nodes.values():
            node.await_ready()
        cls.await_peers()
        cls.next = 1

    @classmethod
    def tearDownClass(cls):
        for node in cls.nodes.values():
            node.daemon.kill()
        cls.etcd.kill()
        cls.temporary.cleanup()

    @classmethod
    def await_peers(cls):
        cls.nodes["n1"].await_peers({"n2"})
        cls.nodes["n2"].await_peers({"n1"})

    def client(self, name, timeout_s=10):
        return BlockClient(LIBRARY, self.nodes[name].socket, timeout_s)

    def put(self, client, length):
        number = TwoNodes.next
        TwoNodes.next += 1
        # Emulated, beside other work, the other node may seem away for a while.
        end = time.monotonic() + 60
        while True:
            try:
                client.put(number, content(number, length), REPLICATED)
                return number
            except Refused as refused:
                if refused.code != UNAVAILABLE or time.monotonic() > end:
                    raise

    def expect_block(self, client, number, length):
        """The tier where it was."""
        data, tier = client.get(number)
        self.assertEqual(data, content(number, length), f"block {number}")
        return tier

    def memctl(self, name, what):
        done = subprocess.run(
            [PROGRAMS / "memctl", "--socket", self.nodes[name].socket, "-o",
             "json", what], text=True, capture_output=True, check=True)
        return json.loads(done.stdout)

    def fabric(self, name):
        return self.memctl(name, "fabric")

    def dram_used(self, name):
        return self.memctl(name, "tenants")["tenants"][0]["dram"]["used_bytes"]

    def both_ways(self):
        with self.client("n1") as one, self.client("n2") as two:
            for writer, reader in ((one, two), (two, one)):
                for length in LENGTHS:
                    number = self.put(writer, length)
                    self.expect_block(reader, number, length)

    def test_1_the_fabric_is_verbs_on_the_device_of_each_address(self):
        for name in ADDRESSES:
            fabric = self.fabric(name)
            self.assertEqual(fabric["provider"], "verbs;ofi_rxm")
            self.assertEqual(fabric["domain"], DEVICES[name])
            self.assertEqual(fabric["address"], ADDRESSES[name])
            self.assertEqual(fabric["fallbacks"], 0)
            self.assertTrue(fabric["pins_memory"])
            taken = [candidate["provider"] for candidate in
                     fabric["candidates"] if candidate["taken"]]
            self.assertEqual(taken, ["verbs;ofi_rxm"])
            survey = fabric["devices"]
            self.assertEqual([device["name"] for device in survey["devices"]],
                             ["rxe0", "rxe1"])
            self.assertEqual(survey["taken"], DEVICES[name])
            self.assertIn("has the address", survey["reason"])
            self.assertEqual(survey["problems"], [])

    def test_2_what_one_node_puts_the_other_one_reads(self):
        self.both_ways()
        for name in ADDRESSES:
            peer = self.fabric(name)["pool"]["peers"][0]
            self.assertGreaterEqual(peer["bytes_written"], sum(LENGTHS))

    def test_3_after_regions_used_the_dram_its_blocks_are_still_what_is_sent(
            self):
        """What the device registered at the start is what it sends for ever."""
        before = self.dram_used("n1")
        with AgentClient(LIBRARY, self.nodes["n1"].socket) as agents, \
                agents.open("a", REGION_BYTES) as agent:
            for at in range(0, REGION_BYTES, 1 << 20):
                agent.write(content(at, 1 << 20), at)
        until(lambda: self.dram_used("n1") <= before + SPARE_BYTES,
              "the region gave its memory back")
        with self.client("n1") as one, self.client("n2") as two:
            numbers = [self.put(one, 1 << 20) for _ in range(24)]
            for number in numbers:
                self.expect_block(two, number, 1 << 20)
        # (A copy that is wrong is passed over: the other node's is read.)
        for name in ADDRESSES:
            self.assertEqual(self.fabric(name)["pool"]["corrupt"], 0, name)

    def test_4_a_killed_node_is_passed_over_and_comes_back(self):
        with self.client("n1") as one:
            numbers = [self.put(one, 65536) for _ in range(8)]
            self.nodes["n2"].daemon.kill()
            for number in numbers:
                self.expect_block(one, number, 65536)
            self.nodes["n2"].launch()
            self.nodes["n2"].await_ready()
            self.await_peers()
            with self.client("n2") as two:
                for number in numbers:
                    self.expect_block(two, number, 65536)
        self.both_ways()

    def test_5_a_cut_wire_ends_puts_in_time_and_mended_all_goes_on(self):
        with self.client("n1", timeout_s=4) as one:
            number = self.put(one, 65536)
            lose("100%")
            try:
                began = time.monotonic()
                TwoNodes.next += 1
                with self.assertRaises(Refused) as refused:
                    one.put(TwoNodes.next - 1,
                            content(TwoNodes.next - 1, 65536), REPLICATED)
                self.assertIn(refused.exception.code,
                              (UNAVAILABLE, DEADLINE_EXCEEDED))
                self.assertLess(time.monotonic() - began, 4 + PATIENCE_S / 6)
                self.expect_block(one, number, 65536)
            finally:
                lose("0%")
        self.await_peers()
        self.both_ways()

    def test_6_they_end_properly_with_traffic_from_the_other(self):
        for node in self.nodes.values():
            node.daemon.terminate()
        for node in self.nodes.values():
            self.assertEqual(node.daemon.end(), 0, node.daemon.tail())


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
