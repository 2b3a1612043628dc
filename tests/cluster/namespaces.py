"""Network namespaces without names: each ends with the last process in it and
the last descriptor of it, so that nothing can be left behind.
"""

import ctypes
import os
import signal
import subprocess

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


class Namespace:
    """A network of its own."""

    def __init__(self):
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            _check(_libc.unshare(CLONE_NEWNET),
                   "a network namespace (needs root, or unshare --user)")
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            _check(_libc.setns(own, CLONE_NEWNET), "setns")
        finally:
            os.close(own)

    @property
    def path(self):
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def enter(self):
        """For a child before exec: lives here, and dies with its parent."""
        _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
        _check(_libc.setns(self.fd, CLONE_NEWNET), "setns")

    def ip(self, *lines):
        """Runs lines of ip(8) in this namespace; all of them must succeed."""
        self.run(["ip", "-batch", "-"], "".join(f"{line}\n" for line in lines))

    def run(self, command, text=""):
        done = subprocess.run(command, input=text, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              preexec_fn=self.enter, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} answered "
                               f"{done.returncode} to\n{text}{done.stdout}")

    def close(self):
        os.close(self.fd)


class Switch:
    """A bridge; wires lead from it to the namespaces of machines."""

    def __init__(self):
        self.namespace = Namespace()
        self.namespace.ip("link add switch type bridge",
                          "link set switch up")

    def connect(self, name, address):
        """A namespace whose eth0 has `address` on this switch."""
        machine = Namespace()
        self.namespace.ip(
            f"link add {name} type veth peer name eth0 netns {machine.path}",
            f"link set {name} master switch",
            f"link set {name} up")
        machine.ip("link set lo up",
                   f"addr add {address}/24 dev eth0",
                   "link set eth0 up")
        return machine

    def cut(self, name):
        """Packets are lost silently, as with a pulled cable."""
        self.namespace.ip(f"link set {name} down")

    def mend(self, name):
        self.namespace.ip(f"link set {name} up")

    def delay(self, name, milliseconds):
        """Of what goes to the machine; 0: none."""
        self.namespace.run(["tc", "qdisc", "replace", "dev", name, "root",
                            "netem", "delay", f"{milliseconds}ms"])

    def close(self):
        self.namespace.close()
