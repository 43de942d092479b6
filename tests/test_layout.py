"""The dependency rule of the house: who may import whom."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"collab", "storage", "web"}
ALLOWED = {"collab": {"collab"}, "storage": {"storage", "collab"}, "web": OURS}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("package", sorted(OURS))
def test_a_layer_imports_only_what_lies_below_it(package: str) -> None:
    files = [f for f in (ROOT / package).rglob("*.py") if "node_modules" not in f.parts]
    assert files
    for file in files:
        for name in imports(file):
            top = name.partition(".")[0]
            assert top not in OURS or top in ALLOWED[package], f"{file.relative_to(ROOT)} imports {name}"


def test_the_core_imports_only_the_standard_library_pycrdt_and_numpy() -> None:
    for file in (ROOT / "collab").glob("*.py"):
        for name in imports(file):
            top = name.partition(".")[0]
            known = top in {"collab", "numpy", "pycrdt"} or top in sys.stdlib_module_names
            assert known, f"{file.name}: {name}"


def test_only_the_command_line_knows_the_client() -> None:
    for package in OURS:
        for file in (ROOT / package).rglob("*.py"):
            if file.parent.name == "client" or "node_modules" in file.parts:
                continue
            known = any(name.startswith("collab.client") for name in imports(file))
            assert not known or file in (ROOT / "web" / "cli.py", ROOT / "web" / "commands.py"), file


def test_alembic_has_no_init_that_would_hide_the_installed_package() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
