"""An authority and the certificates that it signs, made by openssl."""

import pathlib
import subprocess

_CONFIG = """
[req]
distinguished_name = name
prompt = no
x509_extensions = {kind}
[name]
CN = {common_name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[member]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = {names}
"""


class Certificates:
    """In `directory`: authority.pem, and NAME.pem and NAME.key of each."""

    def __init__(self, directory, authority="a cluster on one machine"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(mode=0o700)
        self.authority = self.directory / "authority.pem"
        self._make("authority", "authority", authority, "DNS:none")

    def sign(self, name, names):
        """A pair (certificate, key) that shows `names`, as openssl writes
        them: "URI:spiffe://...", "IP:10.77.0.1"."""
        self._make("member", name, name, names,
                   "-CA", str(self.authority),
                   "-CAkey", str(self.directory / "authority.key"))
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"

    def _make(self, kind, name, common_name, names, *more):
        config = self.directory / f"{name}.cnf"
        config.write_text(_CONFIG.format(kind=kind, common_name=common_name,
                                         names=names))
        done = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec",
             "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7",
             "-config", config, "-keyout", self.directory / f"{name}.key",
             "-out", self.directory / f"{name}.pem", *more],
            text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"openssl makes no certificate of {name}:\n"
                               f"{done.stdout}")


def peer_name(cluster, node):
    """The one name by which memd knows a peer."""
    return f"URI:spiffe://agentmem/{cluster}/node/{node}"
