#!/usr/bin/env python3
"""Installs a build into a fresh prefix and uses it as a stranger would.

Usage: install_test.py BUILD_DIR SOURCE_DIR cuda|no-cuda
"""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv[1])
SOURCE = pathlib.Path(sys.argv[2])
PROGRAM = SOURCE / "tests" / "install" / "program"
WITH_CUDA = sys.argv[3] == "cuda"
MODULE = "libagentmem-cuda.so.0"
OK = 0
UNAVAILABLE = 14


def run(*command, **options):
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=240, check=False, **options)
    if done.returncode:
        raise AssertionError(
            f"{command} answered {done.returncode}:\n{done.stdout}")
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.top = pathlib.Path(tempfile.mkdtemp(prefix="agentmem-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.top)
        installed = cls.top / "installed"
        run("cmake", "--install", BUILD, "--prefix", installed)
        # An install tree may be moved: nothing in it names where it was.
        cls.prefix = cls.top / "moved"
        installed.rename(cls.prefix)
        cls.installed = installed
        cls.library = next(cls.prefix.glob("lib*/**/libagentmem.so"))

    def pkg_config_flags(self):
        pc = next(self.prefix.glob("lib*/**/agentmem.pc"))
        return run("pkg-config", "--cflags", "--libs", "agentmem",
                   env=dict(os.environ,
                            PKG_CONFIG_PATH=str(pc.parent))).split()

    def expect_unavailable(self, program):
        socket = self.top / "nobody" / "memd.sock"
        environment = dict(os.environ,
                           LD_LIBRARY_PATH=str(self.library.parent))
        output = run(program, socket, env=environment)
        code, message = output.split(" ", 1)
        self.assertEqual(int(code), UNAVAILABLE)
        self.assertIn(str(socket), message)

    def test_a_cmake_project_outside_the_tree_builds_and_runs(self):
        build = self.top / "cmake"
        run("cmake", "-S", PROGRAM, "-B", build,
            f"-DCMAKE_PREFIX_PATH={self.prefix}")
        run("cmake", "--build", build)
        self.expect_unavailable(build / "program")

    def test_a_c_program_builds_by_pkg_config_and_runs(self):
        program = self.top / "program_c"
        run("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic",
            PROGRAM / "program.c", "-o", program, *self.pkg_config_flags())
        self.expect_unavailable(program)

    def test_only_names_of_ours_are_exported(self):
        symbols = [line.split()[-1] for line in
                   run("nm", "-D", "--defined-only",
                       self.library).splitlines()]
        self.assertIn("agentmem_connect", symbols)
        foreign = [name for name in symbols
                   if not name.startswith("agentmem_")]
        self.assertEqual(foreign, [])

    def test_what_the_header_declares_is_exported(self):
        headers = self.prefix / "include/agentmem"
        header = "".join((headers / name).read_text()
                         for name in ("agentmem.h", "agents.h"))
        declared = re.findall(
            r"^AGENTMEM_API\s[\w\s*]*?(agentmem_\w+)\(", header, re.MULTILINE)
        self.assertGreater(len(declared), 50)
        symbols = run("nm", "-D", "--defined-only", self.library)
        missing = [name for name in declared
                   if not re.search(rf"\b{name}\b", symbols)]
        self.assertEqual(missing, [])

    def test_the_soname_is_0_and_guests_bring_no_grpc_along(self):
        dynamic = run("readelf", "-d", self.library)
        self.assertIn("[libagentmem.so.0]", dynamic)
        needed = set(re.findall(r"NEEDED.*\[(\w[\w+-]*)\.so", dynamic))
        self.assertLessEqual(
            needed, {"libc", "libstdc++", "libgcc_s", "libm", "libcrypto",
                     "ld-linux-x86-64"})
        loaded = run("ldd", self.library)
        for banned in ("absl", "grpc", "protobuf", "rocksdb"):
            self.assertNotIn(banned, loaded)

    def test_nothing_installed_names_the_machine_that_built_it(self):
        for path in self.prefix.rglob("*"):
            if path.suffix in {".cmake", ".pc", ".service", ".toml"}:
                text = path.read_text()
                self.assertNotIn(str(BUILD), text, path)
                self.assertNotIn(str(SOURCE), text, path)

    def test_the_systemd_unit_starts_the_installed_memd(self):
        unit = self.prefix / "lib/systemd/system/memd.service"
        self.assertIn(f"ExecStart={self.installed}/bin/memd\n",
                      unit.read_text())

    @contextlib.contextmanager
    def memd_serving(self, name):
        """Yields the socket's path; waits for nothing."""
        state = self.top / f"memd-{name}"
        state.mkdir(exist_ok=True)
        socket = state / "memd.sock"
        config = state / "memd.toml"
        config.write_text(f'state_directory = "{state}/state"\n'
                          f'socket = "{socket}"\ndram = "64MiB"\n')
        with open(state / "log", "w", encoding="utf-8") as log:
            memd = subprocess.Popen(
                [str(self.prefix / "bin/memd"), "--config", str(config)],
                stdout=log, stderr=log)
        try:
            yield socket
        finally:
            memd.terminate()
            self.assertEqual(memd.wait(60), 0)

    def test_dev_install_builds_all_that_is_installed(self):
        body = re.search(r"^dev_install\(\) \{\n(.*?)^\}",
                         (SOURCE / "dev").read_text(), re.M | re.S)[1]
        targets = re.search(r"^ *build release (.*)$", body, re.M)[1].split()
        commands = run("ninja", "-C", BUILD, "-t", "commands", *targets)
        built = [path for place in ("bin", "lib*")
                 for path in self.prefix.glob(f"{place}/**/*")
                 if path.is_file() and not path.is_symlink()
                 and path.read_bytes()[:4] == b"\x7fELF"]
        self.assertGreater(len(built), 2)
        for path in built:
            made = re.search(rf"-o \S*/{re.escape(path.name)}\s", commands)
            self.assertTrue(made, f"{path.name}: no target of {targets}")

    def test_a_gpu_is_opened_by_the_module_beside_the_library(self):
        module = self.library.parent / MODULE
        self.assertEqual(module.exists(), WITH_CUDA)
        program = self.top / "device"
        run("cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic",
            PROGRAM / "device.c", "-o", program, *self.pkg_config_flags())
        environment = dict(os.environ,
                           LD_LIBRARY_PATH=str(self.library.parent))

        def opened(socket):
            output = run(program, socket, env=environment)
            code, text = output.strip().split(" ", 1)
            self.assertIn(int(code), (OK, UNAVAILABLE), text)
            return int(code), text

        with self.memd_serving("device") as socket:
            code, text = opened(socket)
            self.assertTrue(text)
            if not WITH_CUDA:
                self.assertEqual(code, UNAVAILABLE)
            # Of the two reasons this one is the module's own.
            if code == UNAVAILABLE:
                self.assertEqual("was built without CUDA" in text,
                                 not WITH_CUDA, text)
            if WITH_CUDA:
                away = module.with_name("away")
                module.rename(away)
                try:
                    code, text = opened(socket)
                finally:
                    away.rename(module)
                self.assertEqual(code, UNAVAILABLE)
                self.assertIn(MODULE, text)
                self.assertIn("missing", text)

    def readme_programs(self):
        text = (SOURCE / "README.md").read_text()
        return [code for code in re.findall(r"```cpp\n(.*?)```", text, re.S)
                if "int main()" in code]

    def compiled_readme(self):
        flags = self.pkg_config_flags()
        programs = []
        for number, code in enumerate(self.readme_programs()):
            source = self.top / f"readme_{number}.cc"
            source.write_text(code)
            program = source.with_suffix("")
            run("c++", "-std=c++20", "-Wall", "-Wextra", "-Werror", source,
                "-o", program, *flags,
                f"-Wl,-rpath,{self.library.parent}")
            programs.append(program)
        return programs

    def test_readmes_programs_say_what_is_wrong_and_run_twice(self):
        programs = self.compiled_readme()
        self.assertEqual(len(programs), 2)
        socket = self.top / "memd-readme" / "memd.sock"
        environment = dict(os.environ, AGENTMEM_SOCKET=str(socket))
        for program in programs:  # nobody serves yet
            done = subprocess.run([str(program)], env=environment, text=True,
                                  stderr=subprocess.PIPE, timeout=60,
                                  check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(str(socket), done.stderr)
        with self.memd_serving("readme"):
            first, memory = programs
            run(first, env=environment)  # it waits until memd serves
            self.assertIn("2 of 2 blocks", run(first, env=environment))
            self.assertIn('it was: ""', run(memory, env=environment))
            again = run(memory, env=environment)
            self.assertIn('it was: "plain memory"', again)
            self.assertIn("coder-8 is there", again)

    def test_installed_programs_start(self):
        for name in ("memd", "memctl"):
            program = self.prefix / "bin" / name
            self.assertTrue(program.exists(), name)
            self.assertIn(name, run(program, "--help"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
