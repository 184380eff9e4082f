"""What the documentation shows works as it stands."""

import ast
import re
import subprocess
import sys
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest
import yaml

from pipeline.planning.recipe_file import load_recipe
from pipeline.registry import OPERATORS
from tests.fixtures.data_sets import plan_of, run_here, write_input, write_recipe

ROOT = Path(__file__).resolve().parent.parent


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_readme_recipe_is_a_recipe(tmp_path: Path) -> None:
    (text,) = blocks("README.md", "yaml")
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    recipe, _ = load_recipe(str(path))
    assert [branch.name for branch in recipe.branches] == ["styled", "classic"]


@pytest.mark.slow
def test_the_readme_reads_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_input(tmp_path / "data", rows=8)
    run_here(plan_of(write_recipe(tmp_path)))
    (text,) = (block for block in blocks("README.md", "python") if "load_dataset" in block)
    lines = [line for line in text.splitlines() if not line.startswith("import ray") and "ray.data" not in line]
    code = "\n".join([*lines, "assert len(rows) == 32", "assert next(iter(loader))[0][0].shape == (3, 24, 32)"])
    environment = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_readme_says_what_python_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = (block for block in blocks("README.md", "python") if "palimpsest.plan" in block)
    (tmp_path / "palimpsest.key").write_bytes(b"k" * 32)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    answers = 0
    for statement in ast.parse(text).body:
        after = text.splitlines()[statement.end_lineno or 0 :]
        if isinstance(statement, ast.Expr) and after[:1] and after[0].startswith("# "):
            answer = repr(eval(ast.unparse(statement), names))
            assert OutputChecker().check_output(f"{after[0][2:]}\n", f"{answer}\n", ELLIPSIS), answer
            answers += 1
        else:
            exec(ast.unparse(statement), names)
    assert answers == text.count("\n# ") == 5


def test_the_operator_page_is_an_operator(tmp_path: Path) -> None:
    module, test = blocks("docs/operators.md", "python")
    (tmp_path / "invert.py").write_text(module)
    (tmp_path / "test_invert.py").write_text(
        "from typing import ClassVar\nfrom invert import Invert\nfrom palimpsest.testing import OperatorConformance\n"
        + test
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_recipe_in_the_house_is_one() -> None:
    for path in (ROOT / "jobs/recipes").glob("*.yaml"):
        data = yaml.safe_load(path.read_text())
        if "branches" in data:
            recipe, _ = load_recipe(str(path))
            assert {name for branch in recipe.branches for step in branch.operators for name in step} <= set(OPERATORS)


def test_no_page_names_a_machine() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "pipeline/assets").rglob("*.md")]
    assert pages
    for page in pages:
        assert "/work/" not in page.read_text()
        assert "/root/" not in page.read_text()


def test_every_relative_link_leads_to_a_file_and_a_heading() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            name, _, heading = target.partition("#")
            if "://" in target:
                continue
            there = page.parent / name if name else page
            assert there.exists(), f"{page.name}: {target}"
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE) if heading else []
            anchors = {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}
            assert not heading or heading in anchors, f"{page.name}: {target}"
