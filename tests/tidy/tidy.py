#!/usr/bin/env python3
"""Reads the tree and rejects what the house does not accept (rules.py).

Usage: tidy.py [ROOT]    exits 1 and prints "path:line: reason" a finding.
"""

import pathlib
import sys

sys.dont_write_bytecode = True

import rules  # noqa: E402
import source_tree  # noqa: E402


def main(argv):
    here = pathlib.Path(__file__).resolve()
    root = pathlib.Path(argv[1]) if len(argv) > 1 else here.parents[2]
    files = source_tree.read_tree(root)
    findings = {finding for rule in rules.RULES for finding in rule(files)}
    for path, line, message in sorted(findings):
        print(f"{path}:{line}: {message}")
    print(f"tidy: {len(files)} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
