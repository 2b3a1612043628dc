"""What this machine lacks for a cluster."""

import shutil

from namespaces import Namespace


def why_not():
    """What is missing here; None: nothing."""
    for program in ("etcd", "openssl", "ip"):
        if shutil.which(program) is None:
            return f"there is no {program} (./dev deps)"
    try:
        Namespace().close()
    except OSError as error:
        return str(error)
    return None
