"""Algorithms in C++ files that are compiled while the program runs."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ai3 import _core, cache
from ai3.errors import CompileError, unknown_name

PACKAGE = Path(__file__).resolve().parent
SOURCES = PACKAGE / "csrc"

FLAGS = (
    *("-std=c++20", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-fPIC"),
    *("-fvisibility=hidden", "-fvisibility-inlines-hidden", "-Wall", "-Wno-psabi"),
    "-DAI3_TASKS_THROW",
)
SUFFIXES = (".cpp", ".cc", ".cxx", ".hpp", ".h")
"""By which a C++ file is known."""

LEVELS = {
    "baseline": (),
    "avx2": ("-march=x86-64-v3",),
    "avx512": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
}
"""As CMakeLists.txt has them."""

NO_COMPILER = (
    "no C++ compiler was found: install GCC 12 or Clang 15 or newer (`apt install g++`, "
    "`dnf install gcc-c++`, `xcode-select --install`), or name one in the environment variable CXX"
)


def include_dir() -> str:
    """The folder of the headers that a C++ algorithm may include, such as "ops/conv2d/op.hpp",
    "core/parallel.hpp" and "core/simd.hpp": what to tell an editor."""
    return str(SOURCES)


def operations() -> list[str]:
    """The operations that a C++ file may have an algorithm of."""
    return sorted(path.stem for path in (PACKAGE / "custom").glob("*.hpp"))


def source_of(op: str) -> Path:
    """The file of the core that registers what `custom/<op>.hpp` has."""
    included = f'"custom/{op}.hpp"'
    return next(p for p in (SOURCES / "ops").glob("*/op.cpp") if included in p.read_text())


def _built_on(source: Path) -> list[Path]:
    """The sources of the operations that one is made of, by what their headers include."""
    found: list[Path] = []
    waiting = [source]
    while waiting:
        header = waiting.pop().with_suffix(".hpp").read_text()
        for other in re.findall(r'#include "ops/(\w+)/op.hpp"', header):
            path = SOURCES / "ops" / other / "op.cpp"
            if path not in found:
                found.append(path)
                waiting.append(path)
    return found


def operations_in(path: Path) -> list[str]:
    """Those that a file defines functions of."""
    text = path.read_text()
    return [op for op in operations() if re.search(rf"\bvoid\s+{op}\s*\(", text)]


def library_of(path: Path, op: str) -> Path:
    """The library of a file, compiled where the cache has none of the same text, headers,
    compiler and instruction set level. Raises CompileError."""
    if op not in operations():
        raise unknown_name("operation of a C++ algorithm", op, operations())
    text = path.read_text()
    _check_text(path, text, op)
    command = compiler()
    level: str = _core.isa
    options = [*command, *FLAGS, *LEVELS[level]]
    key = digest((repr(options), _state_of(command[0]), _headers(), op, str(path.resolve()), text))
    folder = cache.folder() / "compiled" / key
    met = folder / "includes.json"
    known = _unchanged(met)
    # Another name for each text, as a process loads a name once.
    if known is not None and (library := folder / f"{digest([known])}.so").exists():
        return library
    with tempfile.TemporaryDirectory(prefix="ai3-") as made:
        built, included = _compile(Path(made), path, op, options)
        text = json.dumps({str(name): digest([name.read_text()]) for name in included})
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / f"{digest([text])}.so"
        # Whole or not at all, whoever else compiles the same.
        for target, content in ((library, built.read_bytes()), (met, text.encode())):
            part = folder / f"{target.name}.{os.getpid()}"
            part.write_bytes(content)
            part.replace(target)
    return library


def _check_text(path: Path, text: str, op: str) -> None:
    if re.search(rf"\b{op}\s*\(", text) and re.search(r"namespace\s+ai3::custom\b", text):
        return
    header = PACKAGE / "custom" / f"{op}.hpp"
    raise CompileError(
        path,
        f"it has no function {op} in namespace ai3::custom; begin with {header}, in which the "
        "function is declared and explained",
    )


def compiler() -> list[str]:
    if own := os.environ.get("CXX"):
        command = shlex.split(own)
        if shutil.which(command[0]) is None:
            raise CompileError(None, f"CXX names {command[0]!r}, which is no program")
        return command
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return [found]
    raise CompileError(None, NO_COMPILER)


def _compile(folder: Path, path: Path, op: str, options: Sequence[str]) -> tuple[Path, list[Path]]:
    """The library, and the files that the user's one includes beside ai3's and the system's."""
    header = folder / "custom" / f"{op}.hpp"
    header.parent.mkdir()
    default = f"{op}_is_default"
    declared = default in path.read_text()
    said = "" if declared else f"namespace ai3::custom {{ constexpr bool {default} = false; }}\n"
    header.write_text(
        f'#pragma once\n#include "core/custom.hpp"\n#include "{path.resolve()}"\n{said}'
    )
    include = ["-I", str(folder), "-I", str(SOURCES), "-I", str(PACKAGE)]
    depends, source = folder / "depends", source_of(op)
    parts = {
        folder / "op.o": [str(source), "-MMD", "-MF", str(depends)],
        **{folder / f"{other.parent.name}.o": [str(other), "-O1"] for other in _built_on(source)},
        # Asked once for a plan.
        folder / "library.o": [str(SOURCES / "plugin/library.cpp"), "-O1"],
    }

    def make(target: Path) -> str:
        return run([*options, *include, "-c", *parts[target], "-o", str(target)])

    with ThreadPoolExecutor() as pool:
        messages = [message for message in pool.map(make, parts) if message]
    if not messages:
        library = folder / "algorithm.so"
        objects = [str(target) for target in parts]
        undefined = [] if sys.platform == "darwin" else ["-Wl,-z,defs"]
        message = run([*options, "-shared", *undefined, *objects, "-o", str(library)])
        messages = [message] if message else []
    if messages:
        raise CompileError(path, _own_lines_first("\n".join(messages), path))
    return library, _included(depends, [folder, PACKAGE])


def run(command: Sequence[str]) -> str:
    """What a compiler says where it fails."""
    ran = subprocess.run(command, capture_output=True, text=True)
    return (ran.stderr or ran.stdout or f"exit status {ran.returncode}") if ran.returncode else ""


def _own_lines_first(message: str, path: Path) -> str:
    """The compiler's errors in the user's file, then all that it said."""
    own = [
        line
        for line in message.splitlines()
        if line.startswith(f"{path.resolve()}:") and " error: " in line
    ]
    return "\n".join([*dict.fromkeys(own), "", message] if own else [message])


def _included(depends: Path, others: Iterable[Path]) -> list[Path]:
    """The files of a make rule that lie outside of these folders and the system's."""
    text = depends.read_text().replace("\\\n", " ").partition(": ")[2]
    names = [Path(name.replace("\\ ", " ")) for name in re.split(r"(?<!\\)\s+", text) if name]
    outside = (*map(str, others), "/usr/")
    return [name for name in names if not str(name.resolve()).startswith(outside)]


def _unchanged(met: Path) -> str | None:
    """What `met` says, where the files that were included then are what they were."""
    try:
        text = met.read_text()
        known: dict[str, str] = json.loads(text)
        same = all(digest([Path(name).read_text()]) == was for name, was in known.items())
        return text if same else None
    except (OSError, ValueError):
        return None


def _headers() -> str:
    """Tells versions of what is included apart."""
    newest = [
        f"{path.relative_to(PACKAGE)} {(s := path.stat()).st_size} {s.st_mtime_ns}"
        for folder in ("csrc/core", "csrc/kernels", "csrc/plugin", "csrc/ops")
        for path in sorted((PACKAGE / folder).rglob("*.?pp"))
    ]
    return digest(newest)


def _state_of(program: str) -> str:
    path = Path(shutil.which(program) or program).resolve()
    state = path.stat()
    return f"{path} {state.st_size} {state.st_mtime_ns}"


def digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]
