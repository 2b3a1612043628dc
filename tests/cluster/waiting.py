"""What tests of clusters share: waiting for what must come, and knowing whether
they can run here.
"""

import select
import shutil
import time

from namespaces import Namespace

HEALS_S = 10


def until(condition, what, seconds=HEALS_S):
    """condition()'s first answer that is true."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        select.select([], [], [], 0.02)


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
