"""A data set of a stranger names code: nothing that looks at it imports any, and no name makes a false row true."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit.replay import replay_sample
from pipeline.audit.report import write_report
from pipeline.errors import PalimpsestError
from pipeline.publishing.manifest import read_manifest
from pipeline.shards.output.store import open_store
from tests.fixtures.data_sets import findings, plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.outside import write

EVIL = {"reference": "evil:Evil", "distribution": "acme-evil", "version": "1", "sha256": "0" * 64}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("named")
    write_input(folder / "data", shards=1, rows=6)
    run_here(plan_of(write_recipe(folder, quality={"gates": [{"blank": {}}]})))
    return folder / "out"


@pytest.fixture
def out(made: Path, tmp_path: Path, site: Path) -> Path:
    write(site, {"evil.py": "raise SystemExit('imported')\n"})
    return Path(shutil.copytree(made, tmp_path / "out"))


def forge(out: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def first(manifest: dict[str, Any], kind: str = "steps") -> dict[str, Any]:
    found: dict[str, Any] = manifest["chains"][0][kind][0]
    return found


@pytest.mark.parametrize("kind", ["steps", "gates"])
@pytest.mark.parametrize("package", [EVIL, {**EVIL, "trusted": True}])
def test_code_that_a_manifest_names_is_not_imported(out: Path, kind: str, package: dict[str, Any]) -> None:
    forge(out, lambda manifest: first(manifest, kind).update(package=package))
    store = open_store(str(out))
    assert findings(out)
    write_report(store, read_manifest(store))
    with pytest.raises(PalimpsestError, match="evil:Evil is other code here"):
        replay_sample(store, rows_of(out)[0]["sample_id"], allowed=["evil:Evil"])
    assert "evil" not in sys.modules


def test_a_name_that_is_a_module_path_is_not_imported(out: Path) -> None:
    forge(out, lambda manifest: first(manifest).update(operator="evil:Evil"))
    assert any("no operator is called 'evil:Evil'" in finding for finding in findings(out))
    with pytest.raises(PalimpsestError, match="no operator is called 'evil:Evil'"):
        replay_sample(open_store(str(out)), rows_of(out)[0]["sample_id"])
    assert "evil" not in sys.modules


def test_a_built_in_operator_does_what_its_class_says(out: Path) -> None:
    assert findings(out) == []
    forge(out, lambda manifest: first(manifest).update(changes_labels=True))
    assert findings(out) == []  # and rows with a soft label would be a finding still
    forge(out, lambda manifest: first(manifest).update(package=EVIL))
    assert any("flip is built in, and the manifest says that it is of a package" in each for each in findings(out))


def test_a_built_in_gate_keeps_what_its_parameters_say(out: Path) -> None:
    forge(out, lambda manifest: first(manifest, "gates").update(package=EVIL, bounds=[None, None]))
    assert any("blank is built in, and the manifest says that it is of a package" in each for each in findings(out))


@pytest.mark.parametrize(
    "package",
    [{}, {"reference": 7}, {**EVIL, "reference": "../evil"}, {**EVIL, "sha256": None}, {**EVIL, "more": 1}, "evil", []],
)
def test_a_package_that_is_none_is_one_finding_a_branch(out: Path, package: Any) -> None:
    forge(out, lambda manifest: first(manifest).update(package=package))
    assert any("its chain in the manifest cannot be read" in finding for finding in findings(out))


@pytest.mark.parametrize("bounds", [None, [], ["a", 1], [0.5]])
def test_bounds_that_are_none_are_a_finding(out: Path, bounds: Any) -> None:
    forge(out, lambda manifest: first(manifest, "gates").update(package=EVIL, bounds=bounds))
    assert any("its chain in the manifest cannot be read" in finding for finding in findings(out))
