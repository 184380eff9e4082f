"""`import palimpsest`: the names that other people's code may use, and what importing it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import palimpsest

ROOT = Path(__file__).resolve().parent.parent


def test_every_public_name_is_imported_for_readers_and_loaded_for_the_interpreter() -> None:
    tree = ast.parse((ROOT / "palimpsest/__init__.py").read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        (node.module, alias.name)
        for node in ast.walk(typed)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    loaded = {(module, name) for module, names in palimpsest._MODULES.items() for name in names}
    assert loaded == imported
    assert sorted(name for _, name in loaded) == sorted(palimpsest.__all__)
    assert dir(palimpsest) == sorted(palimpsest.__all__)
    for name in palimpsest.__all__:
        assert getattr(palimpsest, name) is not None


def test_importing_it_brings_no_heavy_library() -> None:
    code = (
        "import sys, palimpsest\n"
        "assert not {'torch', 'ray', 'pandas', 'numpy', 'pydantic'} & set(sys.modules), 'by import'\n"
        "palimpsest.Operator, palimpsest.Gate, palimpsest.RowError, palimpsest.generators\n"
        "assert not {'torch', 'ray', 'pandas', 'pyarrow'} & set(sys.modules), 'by the nouns'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
