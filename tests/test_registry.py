"""A recipe's operator is built in, offered by an entry point, or a class of any module; what is wrong is one line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import JobError, RecipeError
from pipeline.operators.classical.flip import Flip
from pipeline.packages import Package, defines, find_package
from pipeline.registry import GATE, OPERATOR, approved, find_part, planned_class
from tests.fixtures.data_sets import plan_of, write_input, write_recipe
from tests.fixtures.outside import forget, install, install_example, write

OPERATOR_TEXT = '''
from palimpsest import Applied, Operator, Parameters
class Params(Parameters):
    """None."""
class {name}(Operator):
    """Pass images on."""
    name, version, source, Params = "{own}", 1, "this test", Params
    def draw(self, batch): ...
    def apply(self, batch, draws, noise): ...
'''


def text(name: str = "Same", own: str = "same") -> str:
    return OPERATOR_TEXT.format(name=name, own=own)


def offer(distribution: str, name: str, value: str, module: str, **own: str) -> None:
    install(distribution, {f"{module}.py": text(**own)}, {"palimpsest.operators": {name: value}})


def message(name: str) -> str:
    with pytest.raises(RecipeError) as error:
        find_part(OPERATOR, name)
    line = str(error.value)
    assert "\n" not in line
    return line


def test_a_class_is_found_by_its_entry_point_and_by_its_module(site: Path) -> None:
    install_example("acme_blur")
    by_name, package = find_part(OPERATOR, "acme_blur")
    by_module, same = find_part(OPERATOR, "acme_blur:AcmeBlur")
    assert by_name is by_module and package == same
    assert package is not None
    assert (package.reference, package.distribution, package.version) == ("acme_blur:AcmeBlur", "acme-blur", "0.1.0")
    sha256 = subprocess.run(["sha256sum", site / "acme_blur.py"], capture_output=True, text=True, check=True).stdout
    assert str(package) == f"acme-blur 0.1.0 sha256:{sha256.split()[0]}"


def test_a_built_in_name_always_wins(site: Path) -> None:
    offer("acme-flip", "flip", "acme_flip:Same", "acme_flip", own="flip")
    assert find_part(OPERATOR, "flip") == (Flip, None)
    package = find_part(OPERATOR, "acme_flip:Same")[1]
    assert package is not None and package.distribution == "acme-flip"


def test_a_name_that_two_offer_is_none(site: Path) -> None:
    offer("acme-one", "same", "one:Same", "one")
    offer("acme-two", "same", "two:Same", "two")
    assert message("same") == (
        "operator 'same': offered by acme-one 0.1.0 (one:Same), acme-two 0.1.0 (two:Same); "
        "write the one you mean as module:Class"
    )


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("acme_bler", "no operator is called 'acme_bler' (did you mean 'acme_blur'?)"),
        ("flp", "no operator is called 'flp' (did you mean 'flip'?)"),
        ("acme blur:X", "operator 'acme blur:X': write a name, or module.path:Class"),
        ("no.module:X", "operator no.module:X: there is no module 'no.module' here; install its package"),
        ("acme_blur:AcmeBlurr", "acme_blur has no 'AcmeBlurr' (did you mean 'AcmeBlur'?)"),
        ("acme_blur:blurred", "it is no operator; derive it from palimpsest.Operator"),
        ("acme_blur:Operator", "it is no operator; derive it from palimpsest.Operator"),
        ("acme_blur:AcmeBlurParams", "it is no operator; derive it from palimpsest.Operator"),
        ("pipeline.operators.classical.flip:Flip", "is of this product; write flip"),
        ("pipeline.errors:JobError", "is of this product, and no operator"),
    ],
)
def test_what_cannot_be_found_is_one_line(site: Path, name: str, line: str) -> None:
    install_example("acme_blur")
    assert line in message(name)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("raise OSError('no licence\\nhere')", "importing bad raised OSError: no licence here"),
        ("import sys; sys.exit(3)", "importing bad raised SystemExit: 3"),
        ("def (", "importing bad raised SyntaxError"),
        (text("Bad").replace("def apply", "def other"), "it lacks apply"),
        (text("Bad", "two words"), "its name is 'two words', and must be a text such as acme_blur"),
        (text("Bad").replace(", 1,", ", 0,"), "its version is 0, and must be a whole number from 1"),
        (text("Bad").replace("version, source", "version, origin"), "it has no source"),
        (text("Bad") + "    digital_source_type = 'art'\n", "its digital_source_type is 'art', and must be one of"),
        (text("Bad") + "    Params = dict\n", "its Params must be a class derived from palimpsest.Parameters"),
    ],
)
def test_a_class_that_cannot_be_used_is_one_line(site: Path, source: str, line: str) -> None:
    install("acme-bad", {"bad.py": source})
    assert line in message("bad:Bad")


def test_an_entry_point_has_the_name_of_its_class(site: Path) -> None:
    offer("acme-odd", "odd", "odd:Same", "odd")
    assert "offers odd:Same, whose own name is 'same'; an entry point and its class have one name" in message("odd")


def test_a_gate_is_no_operator_and_is_found_in_its_own_group(site: Path) -> None:
    source = "from pipeline.gates.blank import Blank\nclass Empty(Blank):\n    '''As blank.'''\n    name = 'empty'\n"
    install("acme-empty", {"empty.py": source}, {"palimpsest.gates": {"empty": "empty:Empty"}})
    found, package = find_part(GATE, "empty")
    assert found.name == "empty" and package is not None and package.distribution == "acme-empty"
    assert "it is no operator" in message("empty:Empty")
    assert "no operator is called 'empty'" in message("empty")


# ---- what the code is ----


def test_the_hash_is_of_what_the_module_imports_of_its_own_package(site: Path) -> None:
    files = {
        "acme/__init__.py": "",
        "acme/blur/__init__.py": "from .kernel import weights\n",
        "acme/blur/kernel.py": "weights = 1\n",
        "acme/blur/operator.py": "from acme import levels\n",
        "acme/levels.py": "most = 255\n",
        "acme/notes.py": "",
    }
    install("acme", files)

    def sha256() -> str:
        package = find_package("acme.blur.operator:Blur")
        assert package is not None and package.distribution == "acme"
        return package.sha256

    before = sha256()
    for name, changed in {"acme/notes.py": False, "acme/blur/kernel.py": True, "acme/levels.py": True}.items():
        (site / name).write_text("changed = True\n")
        assert (sha256() != before) == changed, name
        (site / name).write_text(files[name])
    assert sha256() == before
    assert not [name for name in sys.modules if name.startswith("acme.")]  # nothing was imported


def test_a_folder_on_the_path_belongs_to_no_distribution(site: Path, tmp_path: Path) -> None:
    write(site, {"plain.py": text("Plain", "plain")})
    package = find_part(OPERATOR, "plain:Plain")[1]
    assert package is not None and package.distribution is None
    assert str(package) == f"sha256:{package.sha256}"


def test_a_link_to_a_folder_belongs_to_its_distribution(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "own", {"linked.py": text("Linked", "linked")})
    direct = f'{{"url": "file://{tmp_path}/own", "dir_info": {{"editable": true}}}}'
    install("acme-linked", {})
    write(site, {"acme_linked-0.1.0.dist-info/direct_url.json": direct})
    monkeypatch.syspath_prepend(tmp_path / "own")
    package = find_package("linked:Linked")
    assert package is not None and package.distribution == "acme-linked"


def test_code_that_is_not_the_planned_one_is_refused(site: Path) -> None:
    install_example("acme_blur")
    planned = find_package("acme_blur:AcmeBlur")
    assert planned is not None and planned_class(OPERATOR, "acme_blur", planned).name == "acme_blur"
    install_example("acme_blur", change=("math.ceil(3", "math.ceil(4"))
    with pytest.raises(JobError, match=r"operator acme_blur:AcmeBlur is other code here \(acme-blur 0.1.0 sha256:"):
        planned_class(OPERATOR, "acme_blur", planned)


def test_code_that_changed_after_its_import_is_refused(site: Path) -> None:
    install_example("acme_blur")
    find_part(OPERATOR, "acme_blur")
    (site / "acme_blur.py").write_text((site / "acme_blur.py").read_text() + "\n")
    assert "its source changed since this process imported it; start anew" in message("acme_blur")


# ---- what a stranger's manifest names ----


def stated(reference: str) -> Package:
    package = find_package(reference)
    assert package is not None
    return Package(*package.identity())


def test_what_a_manifest_names_is_not_imported(site: Path) -> None:
    install_example("acme_blur")
    with pytest.raises(JobError, match=r"code that a data set names \(acme_blur:AcmeBlur\) is not imported"):
        planned_class(OPERATOR, "acme_blur", stated("acme_blur:AcmeBlur"))
    with pytest.raises(RecipeError, match="no operator is called 'acme_blur:AcmeBlur'"):
        planned_class(OPERATOR, "acme_blur:AcmeBlur", None)
    assert "acme_blur" not in sys.modules


def change_distribution(package: Package) -> Package:
    return Package(package.reference, "acme-other", package.version, package.sha256)


@pytest.mark.parametrize(
    ("reference", "change", "line"),
    [
        ("acme_blur:AcmeBlur", None, None),  # an entry point
        ("acme_two:Same", None, None),  # of an installed distribution, without one
        ("acme_two:Same", change_distribution, "no installed distribution offers"),
        ("acme_two:Params", None, None),
        ("acme_two:Applied", None, "no installed distribution offers"),  # not its own class
        ("acme_tool:Main", None, "no installed distribution offers"),  # no part of this product
        ("plain:Same", None, "no installed distribution offers; if it is yours, say so: --allow plain:Same"),
    ],
)
def test_a_manifest_leads_to_installed_operators_only(
    site: Path, reference: str, change: Callable[[Package], Package] | None, line: str | None
) -> None:
    install_example("acme_blur")
    install("acme-two", {"acme_two.py": text(), "acme_tool.py": "class Main:\n    pass\n"})
    write(site, {"plain.py": text()})
    package = stated(reference)
    package = package if change is None else change(package)
    if line is None:
        assert approved(OPERATOR, package, ()).trusted
    else:
        with pytest.raises(JobError, match=line):
            approved(OPERATOR, package, ())
        assert approved(OPERATOR, package, (reference,)).trusted  # the user's word
    assert not {"acme_blur", "acme_two", "acme_tool", "plain"} & set(sys.modules)


def test_a_manifest_leads_to_the_recorded_code_only(site: Path) -> None:
    install_example("acme_blur")
    package = stated("acme_blur:AcmeBlur")
    install_example("acme_blur", change=("math.ceil(3", "math.ceil(4"))
    with pytest.raises(JobError, match="is other code here"):
        approved(OPERATOR, package, ("acme_blur:AcmeBlur",))
    (site / "acme_blur.py").unlink()
    with pytest.raises(JobError, match=r"acme_blur:AcmeBlur \(acme-blur 0.1.0 sha256:[0-9a-f]{12}\) is not here"):
        approved(OPERATOR, package, ())


def test_a_class_is_looked_for_in_the_source_alone(site: Path) -> None:
    write(site, {"plain.py": f"raise SystemExit\n{text()}"})
    assert defines("plain:Same") and not defines("plain:Other") and not defines("json:JSONDecoder")
    forget()


# ---- in a plan ----


def digests(recipe: Path, **changes: Any) -> list[str]:
    return [unit.digest for unit in plan_of(recipe, **changes).units]


def test_a_unit_s_digest_holds_the_code(site: Path, tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1)
    recipe = write_recipe(tmp_path, [{"name": "blurred", "operators": [{"acme_blur": {}}]}])
    found = []
    for version, change in [("", ("", "")), ("0.1.1", ("", "")), ("", ("math.ceil(3", "math.ceil(4"))]:
        install_example("acme_blur", version, change)
        found.append(digests(recipe))
    assert len({*map(tuple, found)}) == 3


def test_resources_go_by_the_name_in_the_recipe(site: Path, tmp_path: Path) -> None:
    install_example("acme_blur")
    write_input(tmp_path / "data", shards=1)
    name = "acme_blur:AcmeBlur"
    recipe = write_recipe(tmp_path, [{"name": "b", "operators": [{name: {}}]}], resources={name: {"actors": 3}})
    assert plan_of(recipe).branches[0].actors == 3
