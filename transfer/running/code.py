"""The code that a module depends on: every local module that it can reach, and a fingerprint of what they do."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def imports(file: Path, root: Path) -> set[Path]:
    """The local modules that a module imports, at its top or inside a function, or for its types alone.

    Args:
        file: of the module.
        root: the folder from which local modules are imported.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = {root.joinpath(*name.split(".")).with_suffix(".py") for name in names}
    return {path for path in files if path.is_file()}


def closure(file: Path, root: Path) -> list[Path]:
    """Every local module that a module can reach, itself included, in alphabetical order; arguments as in `imports`.

    What a module compiles stands beside it under its name: its C source goes with it.
    """
    reached: set[Path] = set()
    ahead = {file}
    while ahead:
        reached |= ahead
        ahead = {found for path in ahead for found in imports(path, root)} - reached
    return sorted(reached | {source for path in reached if (source := path.with_suffix(".c")).is_file()})


def fingerprint(files: Iterable[Path]) -> str:
    """SHA-256 of what modules do: their syntax trees, in which comments, layout and docstrings have no part.

    C sources count byte by byte.
    """
    return hashlib.sha256("\n".join(_deeds(file) for file in files).encode()).hexdigest()


def _deeds(file: Path) -> str:
    if file.suffix != ".py":
        return file.read_text(encoding="utf-8")
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)
