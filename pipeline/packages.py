"""Code of other packages: its files, its distribution and its hash, found without importing it."""

import ast
import hashlib
import importlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
"""`module.path:Class`."""


@dataclass(frozen=True)
class Package:
    """The code of an operator or a gate that is not of this distribution.

    `reference` is `module.path:Class`; `distribution` and `version` are those of the installed distribution that the
    module's file belongs to, None for a folder on the path. `sha256` (hex) is over the module's source and what it
    imports of its own top-level package. `trusted`: found here by a recipe of this user's, or approved; what a data
    set's manifest names is not, and is never imported.
    """

    reference: str
    distribution: str | None
    version: str | None
    sha256: str
    trusted: bool = False

    def __str__(self) -> str:
        """Return what a row's lineage says: `acme-blur 0.1.0 sha256:<64 hex digits>`."""
        owner = f"{self.distribution} {self.version} " if self.distribution else ""
        return f"{owner}sha256:{self.sha256}"

    @property
    def short(self) -> str:
        """Return it for a message, with the first 12 hex digits of its sha256."""
        return str(self)[: -len(self.sha256) + 12]

    def identity(self) -> list[Any]:
        """Return what a unit's digest holds of it."""
        return [self.reference, self.distribution, self.version, self.sha256]


def package_from(record: dict[str, Any]) -> Package:
    """Return the package that a manifest states, not trusted. Raises ValueError where it states none that can be."""
    found = Package(**{**record, "trusted": False})
    texts = (found.reference, found.sha256, found.distribution or "", found.version or "")
    if not all(isinstance(text, str) for text in texts) or not REFERENCE.fullmatch(found.reference):
        raise ValueError(f"package {record}")
    return found


def find_package(reference: str) -> Package | None:
    """Return the package of `module.path:Class` as it lies here, trusted; None where there is no such module.

    Nothing is imported: not the module, and none of the packages above it.
    """
    importlib.invalidate_caches()
    module = reference.partition(":")[0]
    files = _files(module)
    if module not in files:
        return None
    owner = owner_of(files[module])
    name, version = (None, None) if owner is None else (owner.name, owner.version)
    return Package(reference, name, version, _sha256(files), trusted=True)


def defines(reference: str) -> bool:
    """Whether the module's own source has a statement `class Class` and imports this product."""
    module, _, name = reference.partition(":")
    tree = _tree(_files(module).get(module))
    if tree is None:
        return False
    ours = any(each.split(".")[0] in ("palimpsest", "pipeline") for each in _imported(tree, module, is_folder=False))
    return ours and any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body)


def owner_of(path: Path) -> Distribution | None:
    """Return the installed distribution that a file belongs to, installed as a copy or as a link to its folder."""
    return next((each for each in distributions() if _owns(each, path)), None)


def _owns(distribution: Distribution, path: Path) -> bool:
    root = Path(str(distribution.locate_file("")))
    if path.is_relative_to(root):
        record = distribution.read_text("RECORD") or ""
        if f"\n{path.relative_to(root).as_posix()}," in f"\n{record}":
            return True
    direct = distribution.read_text("direct_url.json")
    if direct is None or '"editable"' not in direct:
        return False
    url = urlsplit(str(json.loads(direct).get("url", "")))
    return url.scheme == "file" and path.resolve().is_relative_to(Path(unquote(url.path)).resolve())


def _sha256(files: dict[str, Path]) -> str:
    """Return the sha256 of one file, or of lines `sha256  module` of several, in order of module."""
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    if len(found) == 1:
        return next(iter(found.values()))
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in sorted(found.items())).encode()).hexdigest()


def _files(module: str) -> dict[str, Path]:
    """Return the files that importing `module` runs of its own top-level package, by module; empty where it is none."""
    found: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        spec = _spec(name)
        if spec is None:
            continue
        waiting += [name.rpartition(".")[0]] if "." in name else []
        if spec.origin is None or not spec.has_location:  # a namespace, or built into the interpreter
            continue
        found[name] = path = Path(spec.origin)
        folder = spec.submodule_search_locations is not None
        top = module.split(".")[0]
        waiting += [each for each in _imported(_tree(path), name, folder) if each.split(".")[0] == top]
    return found


def _spec(module: str) -> ModuleSpec | None:
    """Return a module's spec. `importlib.util.find_spec` would import the packages above it."""
    locations: list[str] | None = None
    spec = None
    parts = module.split(".")
    for size in range(1, len(parts) + 1):
        name = ".".join(parts[:size])
        found = (finder.find_spec(name, locations) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((each for each in found if each is not None), None)
        if spec is None:
            return None
        inside = spec.submodule_search_locations
        if inside is None and size < len(parts):
            return None
        locations = list(getattr(inside, "_path", inside) or ())  # a namespace's own list asks for its parent
    return spec


def _tree(path: Path | None) -> ast.Module | None:
    if path is None or path.suffix != ".py":
        return None
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # the error is raised when it is imported
        return None


def _imported(tree: ast.Module | None, module: str, is_folder: bool) -> Iterator[str]:
    """Yield the full names of what a module's source imports, inside of functions, too; some may be no modules."""
    package = module.split(".") if is_folder else module.split(".")[:-1]
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
