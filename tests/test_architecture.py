"""The rules of the house, as tests: who may import whom, what a room may know, how large things may get."""

import ast
import functools
import graphlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.registry import GATES, OPERATORS

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 400
MAX_MODULES = 15
MAX_FUNCTION_LINES = 60
NO_ROOM = {"chaos", "fixtures", "golden", "gpu", "hostile", "reference"}
"""Folders of `tests/` that belong to no one room: what tests share, and tests of the whole."""
CONTRACTS_LINES = 150

LAYERS = [
    {"schemas"},
    {
        "pipeline",
        "pipeline.errors",
        "pipeline.caches",
        "pipeline.messages",
        "pipeline.seeding",
        "pipeline.noise",
        "pipeline.validation",
        "pipeline.contracts",
        "pipeline.devices",
        "pipeline.watermark_key",
        "pipeline.requirements",
        "pipeline.working_dir",
    },
    {"pipeline.assets", "pipeline.model_files", "pipeline.shards", "pipeline.watermark", "pipeline.lineage"},
    {"pipeline.algorithms", "pipeline.networks"},
    {"pipeline.diffusion"},
    {"pipeline.gates", "pipeline.operators.bases"},
    {"pipeline.operators"},
    {"pipeline.packages", "pipeline.registry"},
    {"pipeline.plan"},
    {"pipeline.planning"},
    {"pipeline.execution"},
    {"pipeline.monitoring", "pipeline.publishing"},
    {"pipeline.audit"},
    {"pipeline.cluster"},
    {"pipeline.run"},
    {"palimpsest"},
    {"jobs"},
]
"""Lowest first. A module may import from its own layer and from those below."""

SHARDS = {"files": (), "images": (), "output": (), "links": ("files",), "columns": ("files", "images")}
"""The rooms of `pipeline/shards`, each with those that it knows; the modules beside them know all."""
APART = (
    ("model_files", "shards", "watermark", "lineage"),
    ("algorithms", "networks"),
    ("gates", "operators"),
    ("monitoring", "publishing"),
)
"""Rooms that never import one another."""
CONFINED = {
    "ray": ("pipeline/cluster/", "jobs/"),
    "pydantic": (
        "schemas/",
        "pipeline/contracts.py",
        "pipeline/validation.py",
        "pipeline/operators/",
        "pipeline/gates/",
        "jobs/",
    ),
    "torchvision": ("pipeline/operators/", "pipeline/networks/", "jobs/"),
    "jinja2": ("pipeline/lineage/page.py",),
    "diffusers": ("pipeline/diffusion/", "jobs/"),
    "tqdm": ("pipeline/monitoring/progress.py", "jobs/"),
}


@functools.cache
def modules() -> dict[str, Path]:
    files = [path for top in ("schemas", "pipeline", "palimpsest", "jobs") for path in (ROOT / top).rglob("*.py")]
    return {_name(path): path for path in files}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Every imported module, also those imported inside functions."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found = modules()
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in found else node.module


def layer(module: str) -> int:
    parts = module.split(".")
    for size in range(len(parts), 0, -1):
        name = ".".join(parts[:size])
        for index, names in enumerate(LAYERS):
            if name in names and (name != "pipeline" or module == "pipeline"):
                return index
    raise AssertionError(f"{module} has no place in LAYERS")


def own(names: Iterator[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in ("schemas", "pipeline", "palimpsest", "jobs")}


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_down_only(name: str) -> None:
    for imported in own(imports(modules()[name])):
        assert layer(imported) <= layer(name), f"{name} imports {imported}, which is above it"


def test_there_is_no_import_cycle() -> None:
    found = modules()
    graph = {
        name: {other for other in own(imports(path)) if other in found and other != name}
        for name, path in found.items()
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


@pytest.mark.parametrize("rooms", APART, ids="-".join)
def test_rooms_never_import_one_another(rooms: tuple[str, ...]) -> None:
    for room in rooms:
        inside = {name: path for name, path in modules().items() if name.startswith(f"pipeline.{room}.")}
        assert inside
        others = tuple(f"pipeline.{other}." for other in rooms if other != room)
        for name, path in inside.items():
            strangers = [i for i in own(imports(path)) if i.startswith(others)]
            assert not strangers, f"{name} imports {strangers}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in modules().values()}), ids=lambda p: p.name)
def test_no_room_is_crowded(folder: Path) -> None:
    found = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(found) <= MAX_MODULES, f"{folder}: {len(found)} modules; divide it"


def test_tests_mirror_the_tree() -> None:
    folders = sorted({path.parent for path in (ROOT / "tests").rglob("*.py")} - {ROOT / "tests"})
    for folder in folders:
        room = folder.relative_to(ROOT / "tests")
        if room.parts[0] not in NO_ROOM:
            assert any((top / room).is_dir() for top in (ROOT / "pipeline", ROOT)), f"{folder}: no room of that name"
        assert len([*folder.glob("test_*.py")]) <= MAX_MODULES, f"{folder}: too many modules; divide it"


@pytest.mark.parametrize("room", SHARDS)
def test_rooms_of_shards_know_those_below(room: str) -> None:
    known = tuple(f"pipeline.shards.{each}" for each in (room, *SHARDS[room]))
    inside = {name: path for name, path in modules().items() if name.startswith(f"pipeline.shards.{room}.")}
    assert inside
    for name, path in inside.items():
        strangers = [i for i in own(imports(path)) if i.startswith("pipeline.shards.") and not i.startswith(known)]
        assert not strangers, f"{name} imports {strangers}"


def test_operators_never_import_one_another() -> None:
    operators = {path.split(":")[0] for path in OPERATORS.values()}
    for name in operators:
        assert not own(imports(modules()[name])) & operators, name


@pytest.mark.parametrize("library", sorted(CONFINED))
def test_libraries_stay_in_their_rooms(library: str) -> None:
    for path in modules().values():
        place = path.relative_to(ROOT).as_posix()
        if any(place.startswith(allowed) for allowed in CONFINED[library]):
            continue
        found = [name for name in imports(path) if name.split(".")[0] == library]
        assert not found, f"{place} imports {found}"


def test_one_module_alone_touches_what_is_private_to_ray() -> None:
    found = {name: private_names_of_ray(path) for name, path in modules().items()}
    assert [name for name, names in found.items() if names] == ["pipeline.cluster.ray_internals"], found


def private_names_of_ray(path: Path) -> list[str]:
    """Return the names with an underscore below `ray` that a module imports, or reads from what it imported of Ray."""
    tree = ast.parse(path.read_text())
    ours, found = {"ray"}, [name for name in imports(path) if name.startswith("ray.") and "._" in name]
    for node in ast.walk(tree):  # what stands for a part of Ray: imported under a name, or assigned to one
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            parts = [alias for alias in node.names if (module or alias.name).split(".")[0] == "ray"]
            ours |= {alias.asname or alias.name.split(".")[0] for alias in parts}
            found += [alias.name for alias in parts if module and alias.name.startswith("_")]
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and root_of(node.value) in ours:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            ours |= {target.id for target in targets if isinstance(target, ast.Name)}
    private = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    return [*found, *(node.attr for node in private if root_of(node) in ours)]


def root_of(node: ast.expr) -> str:
    """Return the name at the beginning of `name.attribute.attribute`; empty where there is none."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def test_every_operator_is_one_file_one_line_one_test() -> None:
    rooms = {path.split(":")[0].split(".")[2] for path in OPERATORS.values()}
    files = {path.stem for room in rooms for path in (ROOT / "pipeline/operators" / room).glob("*.py")} - {"__init__"}
    assert files == set(OPERATORS)
    for name, path in OPERATORS.items():
        module = path.split(":")[0]
        family = module.split(".")[2]
        assert module == f"pipeline.operators.{family}.{name}"
        assert (ROOT / f"tests/operators/{family}/test_{name}.py").is_file()


def test_every_gate_is_one_file_one_line_one_test() -> None:
    for name, path in GATES.items():
        assert path.startswith(f"pipeline.gates.{name}:")
        assert (ROOT / f"tests/gates/test_{name}.py").is_file()


@pytest.mark.parametrize("path", sorted([*modules().values(), *(ROOT / "tests").rglob("*.py")]), ids=lambda p: p.name)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_the_contracts_fit_on_one_page() -> None:
    assert len((ROOT / "pipeline/contracts.py").read_text().splitlines()) <= CONTRACTS_LINES


@pytest.mark.parametrize("name", sorted(modules()))
def test_every_module_says_what_it_is(name: str) -> None:
    tree = ast.parse(modules()[name].read_text())
    assert ast.get_docstring(tree), f"{name} has no docstring"


def test_nouns_not_drawers() -> None:
    for name in modules():
        assert name.split(".")[-1] not in {"utils", "helpers", "common", "misc", "manager"}


@pytest.mark.parametrize("package", ["schemas", "pipeline", "jobs"])
def test_files_beside_the_code_are_packaged(package: str) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"].get(
        package, []
    )
    packaged = {path for pattern in declared for path in (ROOT / package).glob(pattern)}
    beside = {path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert not beside - packaged
