#!/usr/bin/env python3
"""What tests/gpu/run answers and writes, whatever becomes of its programs:
they are shell scripts here.

Usage: run_test.py SOURCE_DIR
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

RUN = pathlib.Path(sys.argv[1]) / "tests" / "gpu" / "run"

HANG = "while :; do :; done"  # until it is killed
TESTS = """
for argument in "$@"; do
  case $argument in --gtest_output=json:*) json=${argument#*:} ;; esac
done
"""
PASSING = TESTS + """echo '{"result": "COMPLETED"}' >"$json" """
WHICH = """if [ "$1" = --which ]; then echo "a GPU"; exit 0; fi
"""
MEASURED = """
while [ $# -gt 0 ]; do
  case $1 in --bars) bars=$2 ;; --output) json=$2 ;; esac
  shift
done
echo '{"met": 3, "missed": ["one: 0.9"], "not_measured": ["two"]}' >"$bars"
echo '{}' >"$json"
"""


class Run(unittest.TestCase):
    def setUp(self):
        self.here = pathlib.Path(tempfile.mkdtemp(prefix="agentmem-run-"))
        self.addCleanup(shutil.rmtree, self.here)
        # It looks for a driver here, whatever this machine has.
        (self.here / "run").write_text(
            RUN.read_text()
            .replace("/proc/driver/nvidia/", f"{self.here}/proc-")
            .replace("/dev/nvidia", f"{self.here}/dev-nvidia"))
        (self.here / "run").chmod(0o755)
        self.out = self.here / "out"

    def run_with(self, tests, bench, *arguments, out=None):
        """(exit status, run.json) of a run with these programs."""
        for name, body in (("gpu_tests", tests), ("hbm_bench", bench)):
            program = self.here / name
            program.write_text(f"#!/bin/sh\n{body}\n")
            program.chmod(0o755)
        done = subprocess.run(
            [str(self.here / "run"), *arguments], cwd=self.here, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            env=dict(os.environ, OUT=str(out or self.out)))
        self.printed = done.stdout.decode()
        told = (out or self.out) / "run.json"
        return done.returncode, (json.loads(told.read_text())
                                 if told.exists() else None)

    def test_what_passes_is_told_with_its_bars(self):
        status, told = self.run_with(PASSING, WHICH + MEASURED)
        self.assertEqual(status, 0)
        self.assertEqual(told["gpu"], "a GPU")
        self.assertEqual(told["gpu_tests"], "passed")
        self.assertEqual(told["hbm"], "measured")
        self.assertEqual(told["bars"], {"met": 3, "missed": ["one: 0.9"],
                                        "not_measured": ["two"]})
        self.assertNotIn("unfinished", told)
        self.assertIn("glibc", told["glibc"])
        self.assertIn("driver", told)

    def test_without_a_gpu_all_is_skipped(self):
        status, told = self.run_with(
            TESTS + """echo '{"result": "SKIPPED"}' >"$json" """,
            'echo "SKIPPED: no driver"; exit 77')
        self.assertEqual(status, 0)
        self.assertEqual(told["gpu_tests"], "skipped")
        self.assertEqual(told["hbm"], "skipped")

    def test_a_gpu_that_only_the_kernel_knows_of_fails_it(self):
        for name in ("proc-version", "dev-nvidia3"):
            path = self.here / name
            path.write_text("NVRM version: 1\n")
            status, told = self.run_with(
                PASSING, 'echo "SKIPPED: no libcuda.so.1"; exit 77')
            path.unlink()
            self.assertEqual(status, 1)
            self.assertIn("failed", told["gpu_opens"])
            self.assertIn(str(path), told["gpu_opens"])
            self.assertIn("libcuda", told["gpu_opens"])
            self.assertNotIn("hbm", told)

    def test_a_gpu_that_does_not_open_fails_and_says_why(self):
        status, told = self.run_with(
            PASSING,
            r"""printf 'FAILED: "streams"\n\tof \\GPU\033[0m 0\n'; exit 1""")
        self.assertEqual(status, 1)
        self.assertIn("failed with 1", told["gpu_opens"])
        self.assertIn("'streams'", told["gpu_opens"])
        self.assertNotIn("hbm", told)

    def test_a_program_that_does_not_start_fails(self):
        status, told = self.run_with(PASSING, "exit 127")
        self.assertEqual(status, 1)
        self.assertIn("failed with 127", told["gpu_opens"])

    def test_a_test_that_fails_fails_it_and_benches_are_run_all_the_same(self):
        status, told = self.run_with("exit 1", WHICH + MEASURED)
        self.assertEqual(status, 1)
        self.assertEqual(told["gpu_tests"], "failed with 1")
        self.assertEqual(told["hbm"], "measured")

    def test_tests_that_were_skipped_beside_a_gpu_fail_it(self):
        skipped = TESTS + """printf '"COMPLETED"\n"SKIPPED"\n' >"$json" """
        status, told = self.run_with(skipped, WHICH + MEASURED)
        self.assertEqual(status, 1)
        self.assertIn("failed: 1 were skipped", told["gpu_tests"])
        # One that has no kernels may leave out what is of them.
        status, told = self.run_with(
            skipped + "; echo 'no kernels on this device'", WHICH + MEASURED)
        self.assertEqual(told["gpu_tests"], "passed")
        self.assertEqual(status, 0)

    def test_tests_that_tell_of_none_fail_it(self):
        of_none = TESTS + """echo '{"result": "SUPPRESSED"}' >"$json" """
        for tests in ("exit 0", of_none):
            status, told = self.run_with(tests, WHICH + MEASURED)
            self.assertEqual(status, 1)
            self.assertIn("no test", told["gpu_tests"])

    def test_tests_that_hang_are_ended_and_what_they_said_is_kept(self):
        status, told = self.run_with(f"echo the third\n{HANG}",
                                     WHICH + MEASURED, "--tests-seconds", "5")
        self.assertEqual(status, 1)
        self.assertIn("after 5 s", told["gpu_tests"])
        self.assertEqual(told["hbm"], "measured")
        self.assertIn("the third", (self.out / "gpu_tests.txt").read_text())

    def test_benches_that_hang_are_ended_and_what_they_wrote_is_kept(self):
        status, told = self.run_with(PASSING, WHICH + MEASURED + HANG,
                                     "--bench-seconds", "5")
        self.assertEqual(status, 1)
        self.assertIn("after 5 s", told["hbm"])
        self.assertEqual(told["bars"]["met"], 3)
        self.assertTrue((self.out / "hbm.json").exists())

    def test_a_gpu_that_is_lost_fails_it(self):
        for code in (1, 77):
            status, told = self.run_with(
                PASSING, WHICH + MEASURED + f"exit {code}")
            self.assertEqual(status, 1)
            self.assertIn("failed", told["hbm"])
            self.assertEqual(told["bars"]["not_measured"], ["two"])

    def test_what_runs_stands_in_run_json_meanwhile(self):
        look = 'cp "$(dirname "$json")/run.json" "$(dirname "$0")/then.json"'
        self.run_with(PASSING, WHICH + MEASURED + look)
        then = json.loads((self.here / "then.json").read_text())
        self.assertEqual(then["unfinished"], "hbm")
        self.assertEqual(then["gpu_tests"], "passed")

    def test_an_earlier_runs_files_are_not_taken_for_this_ones(self):
        self.run_with(PASSING, WHICH + MEASURED)
        status, told = self.run_with("exit 0", WHICH + "exit 1")
        self.assertEqual(status, 1)
        self.assertIn("no test", told["gpu_tests"])
        self.assertNotIn("bars", told)
        self.assertFalse((self.out / "hbm.json").exists())

    def test_its_own_directory_may_be_the_output(self):
        for _ in range(2):
            status, told = self.run_with(PASSING, WHICH + MEASURED,
                                         out=self.here)
            self.assertEqual(status, 0)
            self.assertEqual(told["gpu_tests"], "passed")

    def test_wrong_arguments_are_answered_with_the_usage(self):
        for arguments in (["--what"], ["--bench-seconds"],
                          ["--bench-seconds", "0"],
                          ["--tests-seconds", "ten"]):
            status, told = self.run_with(PASSING, WHICH, *arguments)
            self.assertEqual(status, 2, arguments)
            self.assertIn("Usage: run", self.printed)
            self.assertIsNone(told)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
