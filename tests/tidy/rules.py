"""What the house does not accept. Each rule yields (path, line, message)."""

import re

LIBRARIES = ("base", "proto", "tiering", "cuda", "memd", "client")

# Who may include whom: base <- proto <- {tiering, cuda} <- {memd, client}.
ALLOWED_INCLUDES = {
    "base": {"base"},
    "proto": {"base", "proto"},
    "tiering": {"base", "proto", "tiering"},
    "cuda": {"base", "proto", "cuda"},
    "memd": {"base", "proto", "tiering", "cuda", "memd"},
    "client": {"base", "proto", "tiering", "cuda", "client"},
}
# Third-party headers, and the only directories of the product that see them.
CONFINED_LIBRARIES = {
    "rocksdb/": ("memd/store/",),
    "grpcpp/": ("memd/cluster/", "memd/service/", "client/memctl/"),
    "grpc/": ("memd/cluster/", "memd/service/", "client/memctl/"),
    "google/protobuf/": ("memd/cluster/", "memd/service/", "client/memctl/"),
    "rdma/": ("memd/transport/",),
    "infiniband/": ("memd/transport/",),
}
# What libagentmem must not bring into other people's processes.
GUEST_BANNED = ("absl/", "grpc", "google/protobuf/", "rocksdb/", "toml++/",
                "nlohmann/", "CLI/")


def _is_main(path):
    return path.endswith("/main.cc")


def _is_program(path):
    """Code of a program, which owns the standard streams."""
    return (_is_main(path) or path.startswith("client/memctl/")
            or path.startswith("tests/") or path.startswith("benchmarks/"))


def _is_test(path):
    return path.startswith(("tests/", "benchmarks/"))


# (what, pattern in the code, why and instead, may this path?)
BANNED_CALLS = [
    ("a sleep",
     r"\b(?:sleep_for|sleep_until)\b|(?<![\w.>])(?:u|nano|clock_nano)?sleep\s*\(",
     "wait for the event itself (futex, eventfd, pidfd, poll with a deadline), "
     "or pass a ManualClock in",
     lambda path: False),
    ("getenv", r"\b(?:secure_)?getenv\s*\(",
     "read the environment in main() and pass the value on "
     "(libagentmem: client/environment.cc)",
     lambda path: _is_main(path) or path == "client/environment.cc"),
    ("rand", r"(?<![\w.>])s?rand\s*\(",
     "pass a seeded std::mt19937_64 in", lambda path: False),
    ("a clock read",
     r"\b(?:clock_gettime|gettimeofday|ftime)\s*\(|\b\w*_clock::now\b|"
     r"(?<![\w.>])time\s*\(\s*(?:NULL|nullptr|0|&)|\b__rdtscp?\s*\(",
     "take a Clock or a TimeNs (base/clock.h)",
     lambda path: path in ("base/clock.h", "base/log.cc",
                           "benchmarks/thread_clock.h")),
    ("a standard stream",
     r"\bstd::(?:cout|cerr|clog)\b|(?<![\w])(?:printf|puts|putchar)\s*\(|"
     r"\bfprintf\s*\(",
     "libraries return a Status or use base/log.h",
     lambda path: _is_program(path) or path == "base/check.h"),
    ("an unbounded C string call",
     r"(?<![\w.>])(?:strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof)"
     r"\s*\(",
     "use std::string, snprintf or std::from_chars", lambda path: False),
    ("assert", r"(?<![\w])assert\s*\(",
     "AGENTMEM_CHECK for our own invariants, a Status for input",
     lambda path: False),
    ("a detached thread", r"[.>]detach\s*\(\s*\)",
     "keep the thread and join it", lambda path: False),
    ("an exception", r"(?<![\w])(?:throw\b|catch\s*\()",
     "return a Status", lambda path: _is_main(path) or _is_program(path)),
    ("using namespace std", r"\busing\s+namespace\s+std\b",
     "name what you use", lambda path: False),
    ("pragma once", r"#\s*pragma\s+once\b",
     "use the guard AGENTMEM_<PATH>_H_", lambda path: False),
]
_COMPILED_CALLS = [(what, re.compile(pattern), instead, may)
                   for what, pattern, instead, may in BANNED_CALLS]


def banned_calls(files):
    for file in files.values():
        if not file.is_cpp:
            continue
        for what, pattern, instead, may in _COMPILED_CALLS:
            if may(file.path):
                continue
            for number, line in enumerate(file.code_lines, 1):
                if pattern.search(line):
                    yield file.path, number, f"{what} is not used here: {instead}"


_UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
_MACHINE_PATH = re.compile(r"(?<![\w.}])/(?:home|root|work|Users)/\w\w")


def words(files):
    for file in files.values():
        for number, line in enumerate(file.lines, 1):
            if _UNFINISHED.search(line):
                yield (file.path, number,
                       "unfinished work belongs in an issue, not in the tree")
            if _MACHINE_PATH.search(line):
                yield (file.path, number,
                       "a path of one machine: make it relative")


def layout(files):
    for file in files.values():
        for number, line in enumerate(file.lines, 1):
            if line != line.rstrip():
                yield file.path, number, "white space at the end of the line"
            if not file.is_cpp:
                continue
            if "\t" in line:
                yield file.path, number, "a tab: indent with spaces"
            if len(line) > 80 and "http" not in line:
                yield file.path, number, f"{len(line)} columns, at most 80"
        if file.text and not file.text.endswith("\n"):
            yield file.path, len(file.lines), "no newline at the end"


FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 100
_SCOPE = re.compile(r"\b(?:namespace|class|struct|union|enum)\b|^\s*extern\b")


def functions(file):
    """(first line, lines) of each function body, by braces."""
    stack, head, line = [], "", 1
    for char in re.sub(r"^\s*#(?:.*\\\n)*.*$",
                       lambda m: "\n" * m.group(0).count("\n"), file.code,
                       flags=re.MULTILINE):
        if char == "\n":
            line += 1
        if char == "{":
            outer = all(kind == "scope" for kind, _ in stack)
            scope = _SCOPE.search(head) and ")" not in head
            if outer and not scope and ")" in head:
                stack.append(("function", line))
            else:
                stack.append(("scope" if outer and scope else "block", line))
            head = ""
        elif char == "}":
            if stack:
                kind, first = stack.pop()
                if kind == "function":
                    yield first, line - first + 1
            head = ""
        elif char == ";":
            head = ""
        else:
            head += char


def sizes(files):
    for file in files.values():
        if not file.is_cpp and file.suffix != ".py":
            continue
        count = len(file.lines) - 1
        if count > FILE_LINES_MAX:
            yield (file.path, count,
                   f"{count} lines, at most {FILE_LINES_MAX}: split the file")
        if not file.is_cpp:
            continue
        for first, lines in functions(file):
            if lines > FUNCTION_LINES_MAX:
                yield (file.path, first, f"a function of {lines} lines, at most "
                       f"{FUNCTION_LINES_MAX}: name its phases")


def guard_of(path):
    for prefix in ("client/include/agentmem/", "client/include/"):
        if path.startswith(prefix):
            path = path[len(prefix):]
            break
    return "AGENTMEM_" + re.sub(r"[^A-Za-z0-9]", "_", path).upper() + "_"


def guards(files):
    for file in files.values():
        if not file.is_header:
            continue
        guard = guard_of(file.path)
        if not re.search(rf"^#ifndef {guard}\n#define {guard}$", file.text,
                         re.MULTILINE):
            yield file.path, 1, f"the include guard is {guard}"


_CLASS = re.compile(r"^(?:class|struct)\s+(?:\w+\([^)]*\)\s+)?\w+"
                    r"(?:\s+final)?\s*(?::[^;{]*)?\{", re.MULTILINE)
_MEMBER_CLASS = re.compile(r"^class\s", re.MULTILINE)


def header_words(files):
    """A header with a class says who owns, which threads, which errors."""
    for file in files.values():
        if not file.is_header or file.top not in ("memd", "client", "tiering"):
            continue
        if not (_MEMBER_CLASS.search(file.code) and _CLASS.search(file.code)):
            continue
        for word in ("Ownership", "Threads", "Errors"):
            if not re.search(rf"\b{word}\b", file.text):
                yield (file.path, 1,
                       f"the header does not say '{word}:' of its class")


def _project_path(target):
    if target.startswith("agentmem/"):
        return "client/include/" + target
    return target


def include_direction(files):
    for file in files.values():
        if not file.is_cpp:
            continue
        allowed = ALLOWED_INCLUDES.get(file.top)
        for line, target, quoted in file.includes:
            if ".." in target.split("/"):
                yield file.path, line, "includes are relative to the root"
            if allowed is None:
                continue
            top = _project_path(target).split("/")[0] if quoted else ""
            known = set(LIBRARIES) | {"tests", "benchmarks"}
            if top in known and top not in allowed:
                yield (file.path, line, f"{file.top}/ does not include {top}/ "
                       "(base <- proto <- tiering, cuda <- memd, client)")
            for prefix, where in CONFINED_LIBRARIES.items():
                if target.startswith(prefix) and not file.path.startswith(where):
                    yield (file.path, line, f"{prefix} is seen in "
                           f"{' and '.join(where)} alone")


def guest_includes(files):
    """libagentmem sees no Abseil, gRPC or Protobuf, indirectly neither."""
    roots = [file for file in files.values()
             if file.is_cpp and file.top == "client"
             and not file.path.startswith("client/memctl/")]
    for root in roots:
        seen, waiting = {root.path}, [(root, None)]
        while waiting:
            file, first_line = waiting.pop()
            for line, target, _ in file.includes:
                at = first_line or line
                if target.startswith(GUEST_BANNED) or ".pb.h" in target:
                    yield (root.path, at, f"brings {target} into libagentmem "
                           f"(by {file.path})")
                path = _project_path(target)
                if path in files and path not in seen:
                    seen.add(path)
                    waiting.append((files[path], at))


_BUILT = [re.compile(pattern) for pattern in (
    r"(?:base|cuda|memd|client)/[^/]+\.cc",
    r"tiering/.+\.cc",
    r"memd/(?:agents|cluster|dram|pool|service|store|transport)/[^/]+\.cc",
    r"client/memctl/[^/]+\.cc",
    r"tests/unit/(?:base|proto|tiering|cuda|store|transport|cluster|pool|memd|"
    r"service|client|memctl|demo|bench)/.+\.cc",
    r"tests/(?:cluster|crash|demo|emulation|integration|rdma)/[^/]+\.cc",
    r"tests/fuzz/[^/]+_fuzz\.cc",
    r"tests/install/.+\.(?:c|cc)",
    r"benchmarks/[^/]+\.cc",
    r"tests/gpu/[^/]+\.cc",
)]
_VAGUE = re.compile(r"(?:^|_)(?:utils?|common|helpers?|managers?|misc)(?:_|\.|$)")


def dead_files(files):
    included = {_project_path(target) for file in files.values()
                for _, target, _ in file.includes}
    included.add("tests/emulation/kernel_language.h")  # by a compiler's option
    public = "client/include/"
    for file in files.values():
        if _VAGUE.search(file.name) and file.is_cpp:
            yield file.path, 1, "name the file after what is in it"
        if file.is_header:
            if file.path not in included and not file.path.startswith(public):
                yield file.path, 1, "nobody includes this header"
        elif file.is_cpp and not any(p.fullmatch(file.path) for p in _BUILT):
            yield file.path, 1, "no CMakeLists.txt builds this file"


_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def links(files):
    """Relative links of the documents lead somewhere."""
    known = set(files)
    for path in list(files):
        parts = path.split("/")
        known.update("/".join(parts[:i]) for i in range(1, len(parts)))
    known.add("LICENSE")
    for file in files.values():
        if file.suffix != ".md":
            continue
        base = file.path.split("/")[:-1]
        for number, line in enumerate(file.lines, 1):
            for target in _LINK.findall(line):
                if re.match(r"[a-z]+:", target):
                    continue
                steps = list(base)
                for step in target.rstrip("/").split("/"):
                    if step == "..":
                        steps = steps[:-1]
                    elif step not in (".", ""):
                        steps.append(step)
                if "/".join(steps) not in known:
                    yield file.path, number, f"the link {target} leads nowhere"


RULES = (banned_calls, words, layout, sizes, guards, header_words,
         include_direction, guest_includes, dead_files, links)
