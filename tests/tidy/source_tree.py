"""The files of the tree, read once: text, code without comments, includes."""

import dataclasses
import functools
import pathlib
import re

SKIPPED_DIRS = {".git", "build", "__pycache__", ".cache"}
CPP_SUFFIXES = {".h", ".hpp", ".cc", ".c"}
TEXT_SUFFIXES = CPP_SUFFIXES | {
    ".cmake", ".in", ".json", ".map", ".md", ".proto", ".py", ".service",
    ".sh", ".toml", ".txt", ".yaml", ".yml"}
TEXT_NAMES = {"dev", "run", ".clang-format", ".clang-tidy", ".gitignore"}

_RAW_STRING = re.compile(r'R"([^()\\ ]{0,16})\((.*?)\)\1"', re.DOTALL)
_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<![0-9A-Fa-f])\'(?:\\.|[^\'\\\n])+\'',
    re.DOTALL)
_INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)


def _blank(match):
    """Spaces in place of a comment or literal; lines stay where they are."""
    text = match.group(0)
    if text.startswith('"'):
        return '"' + " " * (len(text) - 2) + '"'
    return re.sub(r"[^\n]", " ", text)


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One file. `path` is relative to the root, with slashes."""

    path: str
    text: str

    @property
    def suffix(self):
        return pathlib.PurePosixPath(self.path).suffix

    @property
    def name(self):
        return pathlib.PurePosixPath(self.path).name

    @property
    def is_cpp(self):
        return self.suffix in CPP_SUFFIXES

    @property
    def is_header(self):
        return self.suffix in {".h", ".hpp"}

    @property
    def top(self):
        return self.path.split("/")[0]

    @functools.cached_property
    def lines(self):
        return self.text.split("\n")

    @functools.cached_property
    def code(self):
        """The text with comments and literals blanked out."""
        without_raw = _RAW_STRING.sub(
            lambda m: re.sub(r"[^\n]", " ", m.group(0)), self.text)
        return _TOKEN.sub(_blank, without_raw)

    @functools.cached_property
    def code_lines(self):
        return self.code.split("\n")

    @functools.cached_property
    def includes(self):
        """(line, target, in quotes) of each #include."""
        found = []
        for match in _INCLUDE.finditer(self.text):
            line = self.text.count("\n", 0, match.start(2)) + 1
            found.append((line, match.group(2), match.group(1) == '"'))
        return found


def read_tree(root):
    """All text files under `root`, by path."""
    root = pathlib.Path(root)
    files = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if SKIPPED_DIRS & set(relative.parts) or not path.is_file():
            continue
        if path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES:
            name = relative.as_posix()
            files[name] = SourceFile(name, path.read_text(encoding="utf-8"))
    return files
