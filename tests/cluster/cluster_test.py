#!/usr/bin/env python3
"""Several nodes on one machine: they share blocks, miss a dead one, heal, and
leave nothing behind.

Usage: cluster_test.py DIRECTORY_OF_MEMD LIBAGENTMEM [UNITTEST ARGUMENTS]
"""

import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True

import cluster as clusters  # noqa: E402
from block_client import (DEADLINE_EXCEEDED, DURABLE, NOT_FOUND,  # noqa: E402
                          REPLICATED, UNAVAILABLE, VISIBLE, BlockClient,
                          Refused, content)
from certificates import Certificates, peer_name  # noqa: E402
from namespaces import Namespace  # noqa: E402
from waiting import until, why_not  # noqa: E402

PROGRAMS = pathlib.Path(sys.argv[1]).resolve()
LIBRARY = pathlib.Path(sys.argv[2]).resolve()
TOOL = pathlib.Path(__file__).resolve().parent / "cluster_main.py"
BLOCK_BYTES = 100_000


class Blocks:
    """Blocks that were put, each under a number of its own."""

    def __init__(self, cluster):
        self._cluster = cluster
        self._next = 1

    def client(self, name, timeout_s=2):
        return BlockClient(LIBRARY, self._cluster.member(name).socket,
                           timeout_s)

    def put(self, client, ack=REPLICATED):
        number, self._next = self._next, self._next + 1
        client.put(number, content(number, BLOCK_BYTES), ack)
        return number

    def try_put(self, client):
        """None: no other node took it."""
        try:
            return self.put(client)
        except Refused:
            return None

    def has(self, client, number):
        """The tier; None: not there. Wrong bytes are an error."""
        try:
            data, tier = client.get(number)
        except Refused as refused:
            if refused.code == NOT_FOUND:
                return None
            raise
        if data != content(number, BLOCK_BYTES):
            raise AssertionError(f"block {number} has other bytes")
        return tier

    def comes(self, client, number):
        """has, of nodes that are still finding each other."""
        try:
            return self.has(client, number)
        except Refused as refused:
            if refused.code in (DEADLINE_EXCEEDED, UNAVAILABLE):
                return None
            raise

    def connect_all(self):
        """Until what each puts is read by each other."""
        names = [node.name for node in self._cluster.nodes]
        for writer in names:
            with self.client(writer) as client:
                number = until(lambda c=client: self.try_put(c),
                               f"a peer takes a copy of {writer}'s")
            for reader in names:
                with self.client(reader) as client:
                    until(lambda c=client, n=number: self.comes(c, n),
                          f"{reader} reads what {writer} put")


class ThreeNodes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = clusters.Cluster(3, PROGRAMS)
        cls.addClassCleanup(cls.cluster.close_well)
        cls.cluster.start()
        cls.blocks = Blocks(cls.cluster)

    def setUp(self):
        """Whole again, whatever the test before has left."""
        for name, member in self.cluster.members.items():
            self.cluster.mend_member(name)
            if not member.daemon.running:
                self.cluster.start_member(name)
        self.blocks.connect_all()

    def expect_all(self, name, numbers):
        with self.blocks.client(name) as client:
            tiers = [self.blocks.has(client, number) for number in numbers]
        self.assertNotIn(None, tiers, f"{name} misses some")
        return tiers

    def put_many(self, name, count=12):
        with self.blocks.client(name) as client:
            return [self.blocks.put(client) for _ in range(count)]

    def test_each_knows_the_others(self):
        names = {node.name for node in self.cluster.nodes}
        for node in self.cluster.nodes:
            until(lambda n=node: n.peers_up() == names - {n.name},
                  f"{node.name} has all others as peers")

    def test_what_a_node_replicated_others_find_in_the_pool(self):
        numbers = self.put_many("n1")
        for reader in ("n2", "n3"):
            self.assertEqual(set(self.expect_all(reader, numbers)), {"pool"})

    def test_what_a_node_put_others_name_before_anybody_reads_it(self):
        numbers = self.put_many("n1")
        nobodys = numbers[-1] + 1_000_000
        for reader in ("n2", "n3"):
            with self.blocks.client(reader) as client:
                expected = ["pool"] * len(numbers) + ["none"]
                # It waits a tenth of a second for others at most.
                until(lambda c=client: c.contains([*numbers, nobodys])
                      == expected, f"{reader} names what n1 put")

    def test_a_prefix_of_one_node_is_matched_on_all_before_any_get(self):
        tokens = [*range(1000, 1000 + 40 * 4)]
        for ack in (DURABLE, REPLICATED):
            tokens = [token + 7000 for token in tokens]
            with self.blocks.client("n1") as client:
                client.append(tokens, 4, content(ack, 1000), ack)
            for reader in ("n2", "n3"):
                with self.blocks.client(reader) as client:
                    # A match waits a tenth of a second for others at most.
                    until(lambda c=client, t=tokens[:8]: c.match(t, 4) == 2,
                          f"{reader} sees two of two blocks of n1")
                    until(lambda c=client, t=[*tokens, 1, 2, 3, 4]:
                          c.match(t, 4) == 40,
                          f"{reader} sees 40 of 41 blocks of n1")
                    self.assertEqual(client.match([5, *tokens], 4), 0)

    def test_a_killed_node_costs_no_block_and_comes_back(self):
        numbers = self.put_many("n2")
        self.cluster.kill_member("n2")
        for reader in ("n1", "n3"):
            self.expect_all(reader, numbers)
        with self.blocks.client("n1") as client:
            until(lambda: self.blocks.try_put(client),
                  "writes go on without n2", 2)
            numbers += [self.blocks.put(client) for _ in range(4)]
        self.cluster.start_member("n2")
        with self.blocks.client("n2") as client:
            until(lambda: all(self.blocks.comes(client, number)
                              for number in numbers), "n2 reads all again")
        self.blocks.connect_all()

    def test_a_node_that_comes_back_calls_no_block_missing(self):
        numbers = self.put_many("n1")
        self.cluster.kill_member("n2")
        self.cluster.start_member("n2")
        # It has no peers yet: it may ask for patience, and that is all.
        with self.blocks.client("n2") as client:
            for number in numbers:
                try:
                    tier = self.blocks.has(client, number)
                except Refused as refused:
                    self.assertIn(refused.code,
                                  (DEADLINE_EXCEEDED, UNAVAILABLE), refused)
                else:
                    self.assertIsNotNone(tier, f"block {number} is missing")
        self.blocks.connect_all()

    def test_a_node_with_its_wire_cut_comes_back(self):
        numbers = self.put_many("n3")
        self.cluster.cut_member("n3")
        self.expect_all("n1", numbers)
        with self.blocks.client("n1") as client:
            until(lambda: self.blocks.try_put(client),
                  "writes go on without n3", 2)
            numbers += [self.blocks.put(client) for _ in range(4)]
        # Alone, it serves what it has.
        with self.blocks.client("n3") as client:
            number = self.blocks.put(client, VISIBLE)
            self.assertEqual(self.blocks.has(client, number), "dram")
        self.cluster.mend_member("n3")
        self.blocks.connect_all()
        self.expect_all("n3", numbers)

    def test_without_etcd_blocks_go_on(self):
        self.cluster.kill_member("etcd")
        numbers = self.put_many("n1")
        self.expect_all("n3", numbers)
        self.cluster.start_member("etcd")
        self.blocks.connect_all()


    def test_a_node_starts_without_etcd_and_joins_when_it_comes(self):
        with self.blocks.client("n1") as client:
            kept = self.blocks.put(client, DURABLE)
        self.cluster.kill_member("etcd")
        self.cluster.kill_member("n1")
        self.cluster.start_member("n1")
        self.assertIn("started without etcd", self.health("n1"))
        with self.blocks.client("n1") as client:
            self.assertEqual(self.blocks.has(client, kept), "store")
        agents = self.memctl("n1", "agent", "list")
        self.assertIn("started without its cluster's refs", agents.stderr)
        self.cluster.start_member("etcd")
        self.blocks.connect_all()
        until(lambda: "started without etcd" not in self.health("n1"),
              "n1 compares its tenants with the cluster's")
        self.assertEqual(self.memctl("n1", "agent", "list").returncode, 0)

    def memctl(self, name, *words):
        socket = self.cluster.member(name).socket
        return subprocess.run([PROGRAMS / "memctl", "--socket", socket, *words],
                              text=True, capture_output=True, check=False)

    def health(self, name):
        return self.memctl(name, "status").stdout


class AlarmedOperators(unittest.TestCase):
    """What a node says of itself when others, or etcd, are away."""

    def setUp(self):
        self.cluster = clusters.Cluster(2, PROGRAMS)
        self.addCleanup(self.cluster.close_well)
        self.cluster.start()
        self.blocks = Blocks(self.cluster)
        self.blocks.connect_all()

    def memctl(self, *words):
        return subprocess.run(
            [PROGRAMS / "memctl", "--socket", self.cluster.member("n1").socket,
             "-o", "json", *words],
            text=True, capture_output=True, check=False)

    def reasons(self):
        """Of n1's health: name -> reason."""
        health = json.loads(self.memctl("status").stdout)["health"]
        return {reason["name"]: reason for reason in health["reasons"]}

    def log(self):
        return self.cluster.member("n1").daemon.log.read_text(errors="replace")

    def test_a_node_whose_peer_died_says_that_nothing_is_durable(self):
        self.assertEqual(self.reasons(), {})
        before = len(self.log())
        self.cluster.kill_member("n2")
        why = until(lambda: self.reasons().get("no_durability"),
                    "n1 cannot make blocks durable")
        self.assertEqual(why["severity"], "problem")
        left = until(lambda: self.reasons().get("peers_down"), "n2 is missed")
        until(lambda: "n2 left" in
              self.reasons().get("no_durability", {}).get("text", ""),
              "n2 is named as the cause")
        self.assertIn("n2", left["text"])
        with self.blocks.client("n1") as client:
            with self.assertRaises(Refused):
                self.blocks.put(client, DURABLE)
        tenant = json.loads(self.memctl("tenants").stdout)["tenants"][0]
        self.assertEqual(tenant["puts_failed_replica"], tenant["puts_failed"])
        self.assertGreater(tenant["puts_failed"], 0)
        doctor = self.memctl("doctor")
        self.assertEqual(doctor.returncode, 4, doctor.stdout)
        self.assertIn("no_durability", doctor.stdout)
        self.cluster.start_member("n2")
        until(lambda: self.reasons() == {}, "n1 is well again")
        with self.blocks.client("n1") as client:
            self.blocks.put(client, DURABLE)
        for line in ("node n2 left the cluster", "node n2 joined the cluster",
                     "no block can be made durable now",
                     "blocks can be made durable again"):
            self.assertEqual(self.log()[before:].count(line), 1, self.log())

    def test_an_outage_of_etcd_is_in_the_log_and_memd_is_not_called_absent(self):
        self.cluster.kill_member("etcd")
        until(lambda: "cluster_unreachable" in self.reasons(),
              "n1 has lost etcd")
        agents = self.memctl("agent", "list")
        self.assertEqual(agents.returncode, 1, agents.stderr)
        self.assertEqual(self.log().count("etcd does not answer"), 1)
        self.cluster.start_member("etcd")
        until(lambda: self.reasons() == {}, "n1 has etcd again")
        self.assertEqual(self.log().count("etcd answers again"), 1)


class AnotherFabricAddress(unittest.TestCase):
    """Of a node whose end of the fabric failed."""

    def test_peers_learn_it_and_go_on(self):
        made = clusters.Cluster(2, PROGRAMS)
        self.addCleanup(made.close_well)
        one, other = made.nodes
        one.daemon.command[0] = str(PROGRAMS / "faulty_memd")
        made.start()
        blocks = Blocks(made)
        with blocks.client("n1") as mine, blocks.client("n2") as theirs:
            before = [blocks.put(mine), blocks.put(theirs)]
            one.daemon.signal(signal.SIGUSR1)
            # Each message takes a buffer, which is then given back.
            until(lambda: blocks.try_put(theirs) is None or self.moved(one),
                  "n1 is refused a buffer")
            until(lambda: self.moved(one), "n1 has another address")
            after = [until(lambda c=client: blocks.try_put(c),
                           "a block gets its second copy again")
                     for client in (theirs, mine)]
        for name in ("n1", "n2"):
            with blocks.client(name) as client:
                for number in before + after:
                    self.assertIsNotNone(blocks.has(client, number))
        self.assertEqual(one.peers_up(), {"n2"})
        self.assertEqual(other.peers_up(), {"n1"})

    def moved(self, node):
        return "they will at another address" in node.daemon.log.read_text(
            errors="replace")


class OneNode(unittest.TestCase):
    def test_a_node_that_started_without_etcd_ends_if_etcd_is_another(self):
        made = clusters.Cluster(1, PROGRAMS)
        self.addCleanup(made.close_well)
        made.start()
        made.kill_member("n1")
        made.kill_member("etcd")
        node = made.member("n1")
        made.start_member("n1")
        made.etcd.forget()
        made.start_member("etcd")
        self.assertEqual(node.daemon.wait(20), 1)
        self.assertIn("give this node an empty state_directory",
                      node.daemon.log.read_text(errors="replace"))


class BadInput(unittest.TestCase):
    """Nodes that know each other by a list."""

    def make(self, count=2, **options):
        made = clusters.Cluster(count, PROGRAMS, etcd=False, **options)
        self.addCleanup(made.close_well)
        return made

    def log(self, node):
        return node.daemon.log.read_text(errors="replace")

    def expect_said(self, node, *words):
        """In one line of its log, and in no other."""
        def lines():
            return [line for line in self.log(node).splitlines()
                    if all(word in line for word in words)]
        try:
            until(lines, f"{node.name} names {words}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(node)}") from None
        self.assertEqual(len(lines()), 1, self.log(node))

    def expect_serves(self, made, name):
        blocks = Blocks(made)
        with blocks.client(name) as client:
            number = blocks.put(client, VISIBLE)
            self.assertEqual(blocks.has(client, number), "dram")

    def expect_refused_start(self, node, *words):
        node.launch()
        self.assertEqual(node.daemon.wait(10), 1)
        for word in words:
            self.assertIn(word, self.log(node))

    def test_a_wrong_peer_address_is_named(self):
        made = self.make(1)
        node = made.nodes[0]
        node.cluster["peers"].append("n9=10.77.0.1:7999")
        made.start(whole=False)
        self.expect_said(node, "n9", "10.77.0.1:7999")
        self.expect_serves(made, "n1")

    def test_a_provider_that_does_not_exist_is_named(self):
        node = self.make(1).nodes[0]
        node.fabric["provider"] = "nonsense"
        self.expect_refused_start(node, "nonsense")

    def test_a_node_of_another_cluster_is_named_and_gets_nothing(self):
        made = self.make()
        one, other = made.nodes
        certificate, key = made.certificates.sign(
            "foreign", peer_name("elsewhere", "n2"))
        other.cluster.update(name="elsewhere", certificate=certificate, key=key)
        made.start(whole=False)
        self.expect_said(one, "n2", "elsewhere")
        self.expect_said(other, "n1", made.name)
        for name in ("n1", "n2"):
            self.expect_serves(made, name)
        blocks = Blocks(made)
        with blocks.client("n1") as client:
            self.assertIsNone(blocks.try_put(client))

    def test_a_certificate_that_somebody_else_signed_is_named(self):
        made = self.make()
        one, other = made.nodes
        theirs = Certificates(made.directory / "theirs", "somebody else")
        certificate, key = theirs.sign("n2", peer_name(made.name, "n2"))
        other.cluster.update(certificate=certificate, key=key,
                             authority=theirs.authority)
        made.start(whole=False)
        self.expect_said(one, "n2", "TLS failed", peer_name(made.name, "n2")[4:])
        self.expect_said(other, "n1", "TLS failed", "somebody else")
        for name in ("n1", "n2"):
            self.expect_serves(made, name)

    def test_its_own_certificate_must_be_of_its_cluster(self):
        made = self.make(1)
        certificate, key = made.certificates.sign(
            "foreign", peer_name("elsewhere", "n1"))
        made.nodes[0].cluster.update(certificate=certificate, key=key)
        self.expect_refused_start(made.nodes[0], "elsewhere", str(certificate))

    def test_an_etcd_that_is_not_there_is_named(self):
        made = self.make(1)
        node = made.nodes[0]
        del node.cluster["peers"]
        node.cluster["etcd"] = ["http://10.77.0.55:2379"]
        self.expect_refused_start(node, "10.77.0.55:2379")


def processes(directory=None):
    """(/proc/PID, command) of those that name the directory; None: of all."""
    for process in pathlib.Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if directory is None or str(directory).encode() in command:
            yield process, command.decode(errors="replace")


def left_behind(directory):
    """Processes that name the directory; and itself."""
    left = [command for _, command in processes(directory)]
    return left + ([str(directory)] if directory.exists() else [])


def networks(directory=None):
    """The network namespaces in which they live."""
    found = set()
    for process, _ in processes(directory):
        try:
            found.add(os.readlink(process / "ns" / "net"))
        except OSError:
            continue
    return found


class NothingIsLeft(unittest.TestCase):
    """The tool as a process."""

    def run_tool(self, *arguments, **options):
        process = subprocess.Popen(
            [sys.executable, TOOL, *arguments, "--programs", PROGRAMS]
            if "--" not in arguments else
            [sys.executable, TOOL, arguments[0], "--programs", PROGRAMS,
             *arguments[1:]],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            **options)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def directory_of(self, process):
        line = process.stdout.readline()
        self.assertIn("cluster of", line)
        # All of what it says, so that it can be spoken to.
        while "Ctrl-C" not in process.stdout.readline():
            pass
        return pathlib.Path(line.split()[-1])

    def control(self, directory, *words):
        return subprocess.run(
            [sys.executable, TOOL, *words], text=True, check=False,
            env=dict(os.environ, AGENTMEM_CLUSTER=str(directory)),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def test_its_status_is_that_of_its_command(self):
        process = self.run_tool(
            "1", "--", "sh", "-c",
            "test -S $AGENTMEM_CLUSTER/n1/memd.sock || exit 9; "
            "echo $AGENTMEM_CLUSTER; exit 7")
        output = process.communicate(timeout=60)[0]
        self.assertEqual(process.returncode, 7, output)
        self.assertEqual(left_behind(pathlib.Path(output.strip())), [])

    def test_sigterm_ends_all_of_it_whatever_became_of_its_nodes(self):
        process = self.run_tool("2")
        directory = self.directory_of(process)
        used = networks(directory)
        self.assertEqual(len(used), 3)  # etcd's too
        self.assertNotIn(os.readlink("/proc/self/ns/net"), used)
        for words in (("kill", "n1"), ("pause", "2"), ("cut", "etcd")):
            done = self.control(directory, *words)
            self.assertEqual(done.returncode, 0, done.stdout)
        wrong = self.control(directory, "kill", "n7")
        self.assertEqual(wrong.returncode, 1)
        self.assertIn("n7", wrong.stdout)
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
        self.assertEqual(process.returncode, 0, output)
        self.assertEqual(left_behind(directory), [])
        self.assertEqual(used & networks(), set())

    def test_two_run_at_once_and_one_that_is_killed_takes_all_with_it(self):
        first, second = self.run_tool("1"), self.run_tool("1", "--static")
        directories = [self.directory_of(each) for each in (first, second)]
        used = networks(directories[0]) | networks(directories[1])
        first.kill()
        first.wait()
        until(lambda: left_behind(directories[0]) == [str(directories[0])],
              "its daemons end with it")
        second.send_signal(signal.SIGINT)
        self.assertEqual(second.wait(60), 0)
        clusters.sweep()  # as the next cluster does
        for directory in directories:
            self.assertEqual(left_behind(directory), [])
        self.assertEqual(used & networks(), set())


if __name__ == "__main__":
    missing = why_not()
    if missing is not None:
        print(f"cluster_test: skipped: {missing}")
        sys.exit(0)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
