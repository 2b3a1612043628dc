#!/usr/bin/env python3
"""Each rule rejects its fixture, and leaves the correct form alone."""

import sys
import unittest

sys.dont_write_bytecode = True

import rules  # noqa: E402
import source_tree  # noqa: E402


def findings(rule, **texts):
    """Runs `rule` on files given as path="text"; "__" in a name is "/"."""
    files = {}
    for name, text in texts.items():
        path = name.replace("__", "/")
        stem, _, suffix = path.rpartition("_")
        path = f"{stem}.{suffix}"
        files[path] = source_tree.SourceFile(path, text)
    return [f"{path}:{line}: {message}"
            for path, line, message in rule(files)]


class BannedCalls(unittest.TestCase):
    REJECTED = {
        "std::this_thread::sleep_for(1ms);": "a sleep",
        "::usleep(10);": "a sleep",
        "  sleep(1);": "a sleep",
        'const char* v = getenv("HOME");': "getenv",
        "int x = rand();": "rand",
        "std::srand(1);": "rand",
        "clock_gettime(CLOCK_MONOTONIC, &now);": "a clock read",
        "auto t = std::chrono::steady_clock::now();": "a clock read",
        "seed(time(nullptr));": "a clock read",
        "std::cout << 1;": "a standard stream",
        'std::printf("x");': "a standard stream",
        "strcpy(a, b);": "an unbounded C string call",
        "assert(x);": "assert",
        "thread.detach();": "a detached thread",
        "throw 1;": "an exception",
        "using namespace std;": "using namespace std",
        "#pragma once": "pragma once",
    }
    ACCEPTED = [
        "// sleep(1) would hide the race",
        'Log("do not call getenv(");',
        "/* rand() */",
        "static_assert(sizeof(x) == 1);",
        "std::snprintf(a, sizeof(a), format);",
        "pool.Sleep(1);",
        "operand(1);",
        "fiber.sleep(1);",
    ]

    def test_each_banned_call_is_rejected(self):
        for code, what in self.REJECTED.items():
            found = findings(rules.banned_calls, base__x_cc=code + "\n")
            self.assertEqual(len(found), 1, code)
            self.assertIn(what, found[0])

    def test_comments_strings_and_other_names_are_accepted(self):
        for code in self.ACCEPTED:
            self.assertEqual(
                findings(rules.banned_calls, base__x_cc=code + "\n"), [], code)

    def test_main_may_read_the_environment_and_print(self):
        code = 'std::printf("%s", getenv("HOME"));\n'
        self.assertEqual(findings(rules.banned_calls, memd__main_cc=code), [])

    def test_a_test_must_not_sleep_either(self):
        self.assertEqual(
            len(findings(rules.banned_calls,
                         tests__unit__base__x_test_cc="usleep(1);\n")), 1)


class Text(unittest.TestCase):
    def test_unfinished_work_is_rejected_in_comments(self):
        self.assertEqual(
            len(findings(rules.words, base__x_cc="// TO" + "DO: later\n")), 1)

    def test_a_path_of_one_machine_is_rejected(self):
        path = "/".join(["", "home", "someone"])
        self.assertEqual(
            len(findings(rules.words, docs__x_md=f"see {path}\n")), 1)

    def test_layout_is_rejected(self):
        for text in ("int x; \n", "\tint x;\n", "//" + "x" * 79 + "\n", "x"):
            self.assertEqual(
                len(findings(rules.layout, base__x_cc=text)), 1, text)
        self.assertEqual(
            findings(rules.layout, base__x_cc="//" + "x" * 78 + "\n"), [])

    def test_a_long_file_is_rejected(self):
        self.assertEqual(
            len(findings(rules.sizes, base__x_cc="int x;\n" * 601)), 1)
        self.assertEqual(
            findings(rules.sizes, base__x_cc="int x;\n" * 600), [])

    def test_a_long_function_is_rejected_and_a_long_class_is_not(self):
        body = "  x();\n" * 99
        long_function = f"namespace a {{\nvoid F(int x) {{\n{body}}}\n}}\n"
        found = findings(rules.sizes, base__x_cc=long_function)
        self.assertEqual(len(found), 1)
        self.assertIn("x.cc:2", found[0])
        a_class = "class A {\n" + "  int F() { return 1; }\n" * 150 + "};\n"
        self.assertEqual(findings(rules.sizes, base__x_cc=a_class), [])

    def test_links_that_lead_nowhere_are_rejected(self):
        self.assertEqual(
            len(findings(rules.links, docs__a_md="[x](missing.md)\n")), 1)
        self.assertEqual(
            findings(rules.links, docs__a_md="[x](b.md#y) [z](https://a)\n",
                     docs__b_md="\n"), [])


class Headers(unittest.TestCase):
    GUARDED = ("#ifndef {0}\n#define {0}\n{1}\n#endif  // {0}\n")

    def test_the_guard_follows_the_path(self):
        good = self.GUARDED.format("AGENTMEM_MEMD_DRAM_POOL_H_", "")
        self.assertEqual(
            findings(rules.guards, memd__dram__pool_h=good), [])
        self.assertEqual(
            len(findings(rules.guards, memd__store__pool_h=good)), 1)

    def test_public_headers_are_guarded_by_their_public_path(self):
        self.assertEqual(
            rules.guard_of("client/include/agentmem/agentmem.hpp"),
            "AGENTMEM_AGENTMEM_HPP_")

    def test_a_class_without_owner_threads_and_errors_is_rejected(self):
        text = "// A thing.\nclass A final : public B {\n};\n"
        self.assertEqual(
            len(findings(rules.header_words, memd__a_h=text)), 3)
        said = "// Ownership: x. Threads: y. Errors: none.\n" + text
        self.assertEqual(findings(rules.header_words, memd__a_h=said), [])

    def test_a_forward_declaration_needs_no_words(self):
        self.assertEqual(
            findings(rules.header_words, memd__a_h="class A;\n"), [])


class Includes(unittest.TestCase):
    def rejected(self, **texts):
        return len(findings(rules.include_direction, **texts))

    def test_upward_includes_are_rejected(self):
        self.assertEqual(
            self.rejected(base__a_cc='#include "proto/types.h"\n'), 1)
        self.assertEqual(
            self.rejected(tiering__a_cc='#include "memd/client.h"\n'), 1)
        self.assertEqual(
            self.rejected(tiering__a_cc='#include "cuda/device.h"\n'), 1)

    def test_memd_and_client_do_not_include_each_other(self):
        self.assertEqual(
            self.rejected(memd__a_cc='#include "client/futex.h"\n'), 1)
        self.assertEqual(
            self.rejected(memd__a_cc='#include "agentmem/agentmem.h"\n'), 1)
        self.assertEqual(
            self.rejected(client__a_cc='#include "memd/client.h"\n'), 1)

    def test_downward_includes_are_accepted(self):
        self.assertEqual(
            self.rejected(memd__a_cc='#include "tiering/policy.h"\n'), 0)
        self.assertEqual(
            self.rejected(tests__demo__a_cc='#include "memd/client.h"\n'), 0)

    def test_libraries_stay_in_their_directory(self):
        self.assertEqual(
            self.rejected(memd__a_cc="#include <rocksdb/db.h>\n"), 1)
        self.assertEqual(
            self.rejected(memd__store__a_cc="#include <rocksdb/db.h>\n"), 0)

    def test_libagentmem_reaches_no_abseil_through_another_header(self):
        status = '#include "absl/status/status.h"\n'
        found = findings(rules.guest_includes, base__status_h=status,
                         client__a_cc='\n#include "base/status.h"\n')
        self.assertEqual(len(found), 1)
        self.assertIn("client/a.cc:2", found[0])
        self.assertEqual(
            findings(rules.guest_includes, base__status_h=status,
                     client__memctl__a_cc='#include "base/status.h"\n'), [])


class DeadFiles(unittest.TestCase):
    def test_a_header_that_nobody_includes_is_rejected(self):
        self.assertEqual(len(findings(rules.dead_files, base__a_h="\n")), 1)
        self.assertEqual(
            findings(rules.dead_files, base__a_h="\n",
                     base__a_cc='#include "base/a.h"\n'), [])

    def test_a_source_that_no_target_builds_is_rejected(self):
        self.assertEqual(
            len(findings(rules.dead_files, memd__new__a_cc="\n")), 1)

    def test_a_vague_name_is_rejected(self):
        self.assertEqual(
            len(findings(rules.dead_files, base__string_utils_cc="\n")), 1)


if __name__ == "__main__":
    unittest.main()
