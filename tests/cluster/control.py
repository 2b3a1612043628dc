"""How others move a running cluster: one line to its socket, one line back.

"kill n2" -> "ok", or "error WHY".
"""

import os
import socket

VERBS = {
    "kill": "SIGKILL: what it had not written down is lost",
    "stop": "SIGTERM, and waits until it has ended",
    "start": "again, with its state; waits until it takes clients",
    "pause": "SIGSTOP: it answers nobody, and is not gone",
    "resume": "SIGCONT",
    "cut": "its wire: packets are lost silently",
    "mend": "its wire",
    "delay": "what goes to it, by so many milliseconds (0: not)",
}
LINE_BYTES_MAX = 256


class ControlSocket:
    """The listening side; whoever may write the directory may ask."""

    def __init__(self, cluster):
        self._cluster = cluster
        self._path = str(cluster.directory / "control")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self._path)
        os.chmod(self._path, 0o600)
        self._socket.listen()

    def fileno(self):
        return self._socket.fileno()

    def serve(self):
        """One request of one connection."""
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(2)
            try:
                line = connection.makefile("r").readline(LINE_BYTES_MAX)
                answer = self._answer(line.split())
                connection.settimeout(10)
                connection.sendall(f"{answer}\n".encode())
            except (OSError, UnicodeDecodeError):
                pass  # it has gone, or says nothing

    def _answer(self, words):
        if len(words) < 2 or words[0] not in VERBS:
            return ("error it takes VERB MEMBER; verbs are "
                    f"{', '.join(VERBS)}")
        try:
            getattr(self._cluster, f"{words[0]}_member")(*words[1:])
            return "ok"
        except (ValueError, RuntimeError, OSError) as error:
            return "error " + str(error).replace("\n", " | ")
        except TypeError:
            return (f"error \"{' '.join(words)}\": delay takes a member and "
                    "milliseconds, the others a member alone")

    def close(self):
        self._socket.close()


def ask(directory, *words):
    """Has the cluster in `directory` do it; RuntimeError says why not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(os.path.join(directory, "control")))
        connection.sendall(f"{' '.join(words)}\n".encode())
        answer = connection.makefile("r").readline().strip()
    if answer != "ok":
        raise RuntimeError(answer.removeprefix("error ") or "no answer")
