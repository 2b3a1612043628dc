"""Several nodes on one machine: etcd and memds, each in a namespace of its own
with a wire to one switch, with state, sockets and certificates of its own.

Clients need no namespace: they reach a node by its socket's path.
"""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

from certificates import Certificates, peer_name
from daemons import Daemon, connects
from namespaces import Switch

PREFIX = "agentmem-cluster-"
NODES_MAX = 99
PEER_PORT = 7474
ETCD_PORT = 2379
ETCD_ADDRESS = "10.77.0.100"


class RunDirectory:
    """Everything that a cluster writes. Of a cluster that was killed, the next
    one removes what it left: nobody holds its lock any more."""

    def __init__(self, keep=False):
        self._keep = keep
        sweep()
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX))
        fresh = self.path / "lock.new"
        self._lock = os.open(fresh, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        fresh.rename(self.path / "lock")

    def close(self):
        if not self._keep:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def run_directories():
    """(path, whether its cluster lives) of each that this user may see."""
    for lock in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*/lock"):
        try:
            with open(lock, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                alive = False
        except BlockingIOError:
            alive = True
        except OSError:
            continue
        yield lock.parent, alive


def sweep():
    for path, alive in run_directories():
        if not alive and not (path / "keep").exists():
            shutil.rmtree(path, ignore_errors=True)


class Node:
    """A memd with its files; `config` is written anew at each start."""

    def __init__(self, name, directory, address, programs, namespace):
        self.name = name
        self._memctl = programs / "memctl"
        self.directory = directory
        self.address = address
        self.namespace = namespace
        self.directory.mkdir()
        self.socket = directory / "memd.sock"
        self.admin_socket = directory / "admin.sock"
        self.config_path = directory / "memd.toml"
        self.top = {"state_directory": directory / "state",
                    "socket": self.socket, "admin_socket": self.admin_socket}
        self.cluster = {"node": name, "listen": f"{address}:{PEER_PORT}"}
        self.fabric = {}
        self.pool = {}
        self.store = {}
        self.daemon = Daemon(
            name, [programs / "memd", "--config", self.config_path],
            directory / "log", namespace)

    def launch(self):
        text = _toml(self.top)
        for table in ("cluster", "fabric", "pool", "store"):
            if getattr(self, table):
                text += f"[{table}]\n{_toml(getattr(self, table))}"
        self.config_path.write_text(text)
        self.daemon.launch()

    def await_ready(self):
        self.daemon.wait_until(
            lambda: connects(socket.AF_UNIX, socket.SOCK_SEQPACKET,
                             str(self.socket)), "it took connections")

    def peers_up(self):
        """The names of those with which it shares memory now; empty also when
        it does not answer in time."""
        done = subprocess.run(
            [self._memctl, "--socket", self.socket, "-o", "json", "fabric"],
            text=True, capture_output=True, check=False)
        if done.returncode != 0:
            return set()
        return {peer["node"] for peer in json.loads(done.stdout)["pool"]["peers"]
                if peer["state"] == "up"}

    def await_peers(self, names):
        self.daemon.wait_until(lambda: self.peers_up() >= names,
                               f"{', '.join(sorted(names))} were its peers")


def _toml(fields):
    """JSON's strings, numbers, booleans and arrays are TOML's too."""
    return "".join(f"{key} = {json.dumps(value, default=str)}\n"
                   for key, value in fields.items())


class Etcd:
    """The one of a cluster. It speaks to those that have a certificate."""

    def __init__(self, directory, certificates, namespace):
        self.name = "etcd"
        self.address = ETCD_ADDRESS
        self.url = f"https://{ETCD_ADDRESS}:{ETCD_PORT}"
        self.namespace = namespace
        directory.mkdir()
        self._data = directory / "data"
        certificate, key = certificates.sign("etcd", f"IP:{ETCD_ADDRESS}")
        peers = "http://127.0.0.1:2380"  # it has none
        # Half of etcd's default times: leases from 1 s on.
        self.daemon = Daemon(self.name, [
            "etcd", "--name=etcd", f"--data-dir={self._data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=etcd={peers}",
            f"--cert-file={certificate}", f"--key-file={key}",
            f"--trusted-ca-file={certificates.authority}",
            "--client-cert-auth", "--heartbeat-interval=50",
            "--election-timeout=500", "--logger=zap", "--log-level=error"],
            directory / "log", namespace)

    def launch(self):
        self.daemon.launch()

    def forget(self):
        """While it does not run: it starts as a new one."""
        shutil.rmtree(self._data)

    def await_ready(self):
        # memd waits for it by itself.
        if not self.daemon.running:
            raise RuntimeError(f"etcd does not run\n{self.daemon.tail()}")


class Cluster:
    """What `./dev cluster N` runs, and what tests make for themselves."""

    def __init__(self, count, programs, dram="64MiB", export="64MiB",
                 etcd=True, keep=False, diskless=0, serve="4GiB"):
        """`programs`: the directory of memd and memctl. The last `diskless`
        nodes keep their blocks in the stores of those before, which take
        `serve` bytes each."""
        if not 1 <= count <= NODES_MAX:
            raise ValueError(f"a cluster of {count} nodes; 1 to {NODES_MAX} "
                             "are possible on one machine")
        if diskless and (not etcd or diskless >= count):
            raise ValueError(f"{diskless} of {count} nodes without a disk: one "
                             "must have one, and they need etcd")
        self.programs = pathlib.Path(programs).resolve()
        self._run = RunDirectory(keep)
        self.directory = self._run.path
        self.name = self.directory.name.removeprefix("agentmem-")
        if keep:
            (self.directory / "keep").touch()
        self.members = {}
        self._switch = None
        try:
            self._switch = Switch()
            self.certificates = Certificates(self.directory / "certificates")
            self.etcd = self._add_etcd() if etcd else None
            for index in range(1, count + 1):
                self._add_node(index, dram, export)
                if diskless:
                    self.nodes[-1].store = (
                        {"kind": "remote"} if index > count - diskless
                        else {"serve": serve})
            if not etcd:
                self._introduce()
        except BaseException:
            self.close()
            raise

    @property
    def nodes(self):
        return [member for member in self.members.values()
                if isinstance(member, Node)]

    def _add_etcd(self):
        etcd = Etcd(self.directory / "etcd", self.certificates,
                    self._switch.connect("etcd", ETCD_ADDRESS))
        self.members["etcd"] = etcd
        return etcd

    def _add_node(self, index, dram, export):
        name, address = f"n{index}", f"10.77.0.{index}"
        node = Node(name, self.directory / name, address,
                    self.programs,
                    self._switch.connect(name, address))
        certificate, key = self.certificates.sign(
            name, peer_name(self.name, name))
        authority = self.certificates.authority
        node.top["dram"] = dram
        node.cluster.update(name=self.name, certificate=certificate, key=key,
                            authority=authority)
        node.pool["export"] = export
        if self.etcd is not None:
            node.cluster.update(etcd=[self.etcd.url], etcd_authority=authority,
                                etcd_certificate=certificate, etcd_key=key)
        self.members[name] = node

    def _introduce(self):
        peers = [f"{node.name}={node.cluster['listen']}" for node in self.nodes]
        for node in self.nodes:
            node.cluster["peers"] = peers

    def start(self, whole=True):
        """Returns when each takes clients; whole: and has all as peers."""
        for member in self.members.values():
            member.launch()
        for member in self.members.values():
            member.await_ready()
        names = {node.name for node in self.nodes}
        for node in self.nodes if whole else []:
            node.await_peers(names - {node.name})
        (self.directory / "cluster.json").write_text(
            json.dumps(self.describe(), indent=1) + "\n")

    def describe(self):
        return {
            "name": self.name,
            "directory": str(self.directory),
            "control": str(self.directory / "control"),
            "programs": str(self.programs),
            "nodes": [{
                "name": node.name, "socket": str(node.socket),
                "admin_socket": str(node.admin_socket),
                "address": node.address, "config": str(node.config_path),
                "log": str(node.daemon.log), "pid": node.daemon.pid,
            } for node in self.nodes]}

    def member(self, name):
        """"n2" or "2" or "etcd"."""
        for known in (name, f"n{name}"):
            if known in self.members:
                return self.members[known]
        raise ValueError(f"no member \"{name}\" here; there are "
                         f"{', '.join(self.members)}")

    # What can be done to a member while the cluster runs.

    def kill_member(self, name):
        self.member(name).daemon.kill()

    def stop_member(self, name):
        daemon = self.member(name).daemon
        daemon.terminate()
        status = daemon.end()
        if status not in (0, -signal.SIGTERM):
            raise RuntimeError(f"{daemon.name} ended with {status}\n"
                               f"{daemon.tail()}")

    def start_member(self, name):
        member = self.member(name)
        member.launch()
        member.await_ready()

    def pause_member(self, name):
        self.member(name).daemon.signal(signal.SIGSTOP)

    def resume_member(self, name):
        self.member(name).daemon.signal(signal.SIGCONT)

    def cut_member(self, name):
        self._switch.cut(self.member(name).name)

    def mend_member(self, name):
        self._switch.mend(self.member(name).name)

    def delay_member(self, name, milliseconds):
        self._switch.delay(self.member(name).name, int(milliseconds))

    def close(self):
        """Ends all; (name, exit status) of each that did not end well."""
        bad = []
        nodes = self.nodes
        for node in nodes:
            node.daemon.terminate()
        for node in nodes:
            if node.daemon.running and (status := node.daemon.end()) != 0:
                bad.append((node.name, status))
        if "etcd" in self.members:
            self.members["etcd"].daemon.kill()
        for member in self.members.values():
            member.namespace.close()
        if self._switch is not None:
            self._switch.close()
        self.members, self._switch = {}, None
        self._run.close()
        return bad

    def tails(self):
        """The ends of the nodes' logs."""
        return "\n".join(f"{node.name}: {node.daemon.tail()}"
                         for node in self.nodes)

    def close_well(self):
        """Ends all; whoever does not end well is an error, with the logs."""
        tails = self.tails()
        bad = self.close()
        if bad:
            raise AssertionError(f"did not end well: {bad}\n{tails}")
