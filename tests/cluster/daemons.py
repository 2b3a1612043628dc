"""Daemons in namespaces: started, asked whether they are ready, ended."""

import os
import select
import signal
import socket
import subprocess
import time

START_S = 30
STOP_S = 25
ASK_AGAIN_S = 0.01


def connects(family, kind, address, timeout=0.2):
    """Whether somebody takes connections there."""
    with socket.socket(family, kind) as probe:
        probe.settimeout(timeout)
        return probe.connect_ex(address) == 0


class Daemon:
    """A program with a log. It dies with the process that started it."""

    def __init__(self, name, command, log, namespace):
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self._namespace = namespace
        self._process = None
        self._pidfd = -1

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self):
        return self._process.pid if self.running else None

    @property
    def pidfd(self):
        """Readable once it has ended; -1: it was never started."""
        return self._pidfd

    def launch(self):
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        self._forget()
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
                preexec_fn=self._namespace.enter)
        self._pidfd = os.pidfd_open(self._process.pid)

    def wait(self, timeout):
        """Its exit status, negative: a signal; None: it runs still."""
        if self._process is None:
            return 0
        select.select([self._pidfd], [], [], timeout)
        return self._process.poll()

    def wait_until(self, ready, what):
        """Until ready(); an error if it ends before, or takes too long."""
        deadline = time.monotonic() + START_S
        while not ready():
            if self.wait(ASK_AGAIN_S) is not None:
                raise RuntimeError(
                    f"{self.name} ended with {self._process.returncode} "
                    f"before {what}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: {what} not within "
                                   f"{START_S} s\n{self.tail()}")

    def signal(self, number):
        if not self.running:
            raise RuntimeError(f"{self.name} does not run")
        signal.pidfd_send_signal(self._pidfd, number)

    def kill(self):
        """Like a failing machine: nothing is written down."""
        if self.running:
            self.signal(signal.SIGKILL)
            self._process.wait()
        self._forget()

    def terminate(self):
        """Asks it to stop; it may be standing still (SIGSTOP)."""
        if self.running:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)

    def end(self):
        """After terminate: its exit status; -9 if it had to be killed."""
        status = self.wait(STOP_S)
        if status is None:
            self.kill()
            status = -signal.SIGKILL
        self._forget()
        return status

    def tail(self, lines=20):
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _forget(self):
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._process, self._pidfd = None, -1
