"""`palimpsest new-operator`: a package with one operator, its test and its entry point, to start from."""

import argparse
import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

HELP = "write a package with one operator of yours and its test, to start from"
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAX_NAME = 40

TEMPLATES = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=80"]
build-backend = "setuptools.build_meta"

[project]
name = "$distribution"
version = "0.1.0"
description = "$name, an operator of Palimpsest."
requires-python = ">=3.11"
dependencies = ["numpy", "palimpsest", "pydantic"]

[project.entry-points."palimpsest.operators"]
$name = "$name:$cls"

[tool.setuptools]
package-dir = { "" = "src" }
py-modules = ["$name"]

[tool.pytest.ini_options]
pythonpath = ["src"]

[tool.ruff]
line-length = 120
lint.select = ["E", "F", "I", "B", "UP", "RUF"]

[tool.mypy]
strict = true
""",
    "src/$name.py": """\
\"\"\"Brightness, by a drawn factor: put what your operator does here.\"\"\"

import numpy as np
from palimpsest import Applied, Draws, ImageBatch, JobError, Noise, Operator, Parameters, generators
from pydantic import Field


class ${cls}Params(Parameters):
    \"\"\"How much brighter.\"\"\"

    factor_range: tuple[float, float] = Field((0.8, 1.2), description="factor of grey levels, drawn evenly")


class $cls(Operator):
    \"\"\"Multiply the grey levels of each image: [N, H, W, C] uint8 -> the same shape. Draws `factor`.\"\"\"

    name = "$name"
    version = 1
    source = "the paper or library that the arithmetic comes from"
    Params = ${cls}Params
    uses_torch = False
    params: ${cls}Params

    def draw(self, batch: ImageBatch) -> Draws:
        \"\"\"One factor a sample, from its own seed.\"\"\"
        low, high = self.params.factor_range
        return Draws({"factor": [float(each.uniform(low, high)) for each in generators(batch.seeds)]})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        \"\"\"Multiply by what was drawn; the result shares no memory with the batch.\"\"\"
        if batch.images is None:
            raise JobError("$name: there are no images; put it after an operator that makes some")
        factors = np.asarray(draws.columns["factor"])[:, None, None, None]
        return Applied(np.rint(batch.images * factors).clip(0, 255).astype(np.uint8))
""",
    "tests/test_$name.py": """\
\"\"\"$cls keeps what every operator promises.\"\"\"

from typing import Any, ClassVar

from palimpsest.testing import OperatorConformance

from $name import $cls


class Test$cls(OperatorConformance):
    operator = $cls
    params: ClassVar[dict[str, Any]] = {"factor_range": [0.5, 1.5]}
""",
    "README.md": """\
# $distribution

An operator of Palimpsest: `src/$name.py`.

```
pip install -e .
python -m pytest
palimpsest operators $name
```

In a recipe: `operators: [{$name: {factor_range: [0.8, 1.2]}}]`. Raise `version` whenever images may change.
""",
}
"""What is written, by path; $$name, $$cls and $$distribution are filled in."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="lower case, digits and underscores, such as acme_blur")
    command.add_argument("--out", metavar="DIR", help="folder to write, which must not be there (default: NAME)")


def call(options: argparse.Namespace) -> int:
    """Write the package. Raises JobError where the name is no name, or taken, or the folder is there."""
    from pipeline.errors import JobError

    check_name(options.name)
    folder = Path(options.out or options.name)
    if folder.exists() or folder.is_symlink():
        raise JobError(f"{folder} is there already; choose another folder with --out DIR")
    words = {
        "name": options.name,
        "cls": "".join(part.capitalize() for part in options.name.split("_")),
        "distribution": options.name.replace("_", "-"),
    }
    for path, text in TEMPLATES.items():
        target = folder / Template(path).substitute(words)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(Template(text).substitute(words))
        except OSError as error:
            raise JobError(f"{target}: cannot be written: {error.strerror or error}") from error
    print(f"{folder}: edit src/{options.name}.py; then: cd {folder} && pip install -e . && python -m pytest")
    return 0


def check_name(name: str) -> None:
    """Raise JobError unless `name` can be that of a new operator and of its module."""
    from pipeline.errors import JobError
    from pipeline.registry import GATE, OPERATOR, offers

    if not NAME.fullmatch(name) or len(name) > MAX_NAME or keyword.iskeyword(name):
        raise JobError(f"{name!r}: a name is lower case, digits and single underscores, {MAX_NAME} at most: acme_blur")
    for kind in (OPERATOR, GATE):
        if name in kind.known:
            raise JobError(f"{name!r} is a built-in {kind.noun}, which would always win; choose another name")
        if name in offers(kind):
            raise JobError(f"{name!r} is the name of {kind.noun} {name} of an installed package; choose another name")
    if importlib.util.find_spec(name) is not None:
        raise JobError(f"{name!r}: a module of this name is there already; choose another name")
