#!/usr/bin/env python3
"""A cluster of memds on this machine: ./dev cluster N.

Runs until Ctrl-C, or as long as the command after --, whose exit status it then
has. The command finds the cluster's directory in $AGENTMEM_CLUSTER; what is
there stands in cluster.json.
"""

import argparse
import os
import select
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import control  # noqa: E402
from cluster import Cluster, run_directories  # noqa: E402

COMMAND_END_S = 10
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(Exception):
    """By a signal."""


def raise_ended(number, _frame):
    raise Ended(number)


def say(text):
    print(text, flush=True)


def introduce(cluster):
    memctl = cluster.programs / "memctl"
    say(f"cluster of {len(cluster.nodes)} in {cluster.directory}")
    for node in cluster.nodes:
        say(f"  {node.name}  {node.socket}  {node.address}  "
            f"pid {node.daemon.pid}, log beside the socket")
    first, last = cluster.nodes[0], cluster.nodes[-1]
    say(f"look:    {memctl} --socket {first.socket} status\n"
        f"clients: AGENTMEM_SOCKET={first.socket} PROGRAM\n"
        f"disturb: ./dev cluster {'|'.join(control.VERBS)} "
        f"{last.name}|etcd\n"
        f"inside:  nsenter --net=/proc/{first.daemon.pid}/ns/net ip addr\n"
        "end:     Ctrl-C")


def attend(cluster, door, command, seconds):
    """Until the command or the time is over. The command's exit status."""
    deadline = None if seconds is None else time.monotonic() + seconds
    watched = {node.daemon.pidfd: node for node in cluster.nodes}
    command_fd = os.pidfd_open(command.pid) if command else -1
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return 0
        wanted = [door, *watched] + ([command_fd] if command else [])
        ready = select.select(wanted, [], [], left)[0]
        if command_fd in ready:
            return command.wait()
        for fd in ready:
            if fd in watched:
                node = watched.pop(fd)
                say(f"{node.name} ended by itself: "
                    f"{node.daemon.wait(0)}\n{node.daemon.tail()}")
        if door in ready:
            door.serve()
            watched = {node.daemon.pidfd: node for node in cluster.nodes
                       if node.daemon.running}


def end_command(command):
    """A command that outlives the cluster is asked to end, then killed."""
    if command is None or command.poll() is not None:
        return
    command.terminate()
    try:
        command.wait(COMMAND_END_S)
    except subprocess.TimeoutExpired:
        command.kill()
        command.wait()


def serve(options):
    cluster = door = command = None
    status = 0
    for number in SIGNALS:
        signal.signal(number, raise_ended)
    try:
        cluster = Cluster(options.nodes, options.programs, options.dram,
                          options.export, not options.static, options.keep,
                          options.diskless)
        cluster.start()
        door = control.ControlSocket(cluster)
        if options.command:
            command = subprocess.Popen(
                options.command,
                env=dict(os.environ, AGENTMEM_CLUSTER=str(cluster.directory)))
        else:
            introduce(cluster)
        status = attend(cluster, door, command, options.seconds)
    except Ended as ended:
        status = 128 + ended.args[0] if options.command else 0
    except (RuntimeError, OSError, ValueError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        status = 1
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        end_command(command)
        if door is not None:
            door.close()
        for name, code in cluster.close() if cluster is not None else []:
            print(f"cluster: {name} ended with {code}", file=sys.stderr)
            status = status or 1
    # As a shell says it.
    return status if status >= 0 else 128 - status


def disturb(words):
    """The only cluster that runs, or $AGENTMEM_CLUSTER."""
    directory = os.environ.get("AGENTMEM_CLUSTER")
    if directory is None:
        alive = [str(path) for path, lives in run_directories() if lives]
        if len(alive) != 1:
            print(f"cluster: {len(alive)} clusters run; name one by "
                  f"AGENTMEM_CLUSTER=DIRECTORY {' '.join(alive)}",
                  file=sys.stderr)
            return 2
        directory = alive[0]
    try:
        control.ask(directory, *words)
    except (OSError, RuntimeError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


def read_options(arguments):
    verbs = "\n".join(f"  {verb:7} {what}"
                      for verb, what in control.VERBS.items())
    parser = argparse.ArgumentParser(
        prog="./dev cluster", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="while it runs: ./dev cluster VERB MEMBER, a node or etcd\n"
               + verbs)
    parser.add_argument("nodes", type=int, metavar="N", help="how many nodes")
    parser.add_argument("--seconds", type=float, help="and then ends")
    parser.add_argument("--dram", default="64MiB", help="of each node (64MiB)")
    parser.add_argument("--export", default="64MiB",
                        help="what each node lends (64MiB)")
    parser.add_argument("--static", action="store_true",
                        help="a list of peers instead of etcd")
    parser.add_argument("--diskless", type=int, default=0, metavar="K",
                        help="the last K keep their blocks on the disks of "
                             "those before")
    parser.add_argument("--keep", action="store_true",
                        help="keep the directory, with logs and state")
    parser.add_argument("--programs", default="build/release/bin",
                        metavar="DIR", help="of memd (build/release/bin)")
    own, command = arguments, []
    if "--" in arguments:
        at = arguments.index("--")
        own, command = arguments[:at], arguments[at + 1:]
        if not command:
            parser.error("-- without a command")
    options = parser.parse_args(own)
    options.command = command
    return options


def become_root():
    """In a user namespace, where this user may make networks."""
    os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--net", "--",
                          sys.executable, *sys.argv])


def main(arguments):
    if arguments and arguments[0] in control.VERBS:
        return disturb(arguments)
    options = read_options(arguments)
    if os.geteuid() != 0:
        become_root()
    return serve(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
