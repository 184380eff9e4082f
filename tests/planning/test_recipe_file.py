"""A recipe is closed: what is wrong is one line that names the place and the nearest right word."""

import re
from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from pipeline.planning.planner import make_plan
from pipeline.planning.recipe_file import load_recipe
from tests.fixtures.data_sets import FLIP, write_recipe


def test_relative_paths_start_at_the_recipe(tmp_path: Path) -> None:
    recipe, base = load_recipe(str(write_recipe(tmp_path)))
    assert base == str(tmp_path)
    assert recipe.seed == 7
    assert recipe.watermark == "none"


def test_command_line_uris_start_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, _ = load_recipe(str(write_recipe(tmp_path)), input_uri="other", output_uri="s3://bucket/out")
    assert recipe.input.uri == str(tmp_path / "other")
    assert recipe.output.uri == "s3://bucket/out"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=9", lambda r: r.seed == 9),
        ("output.encoding=webp", lambda r: r.output.encoding == "webp"),
        ("branches.flipped.copies=5", lambda r: r.branches[0].copies == 5),
        ("branches.0.where=label == 1", lambda r: r.branches[0].where == "label == 1"),
        (
            "branches.flipped.operators.flip.probability=1.0",
            lambda r: r.branches[0].operators[0]["flip"]["probability"] == 1,
        ),
        ("resources.flip={gpus: 0.5}", lambda r: r.resources["flip"].gpus == 0.5),
    ],
)
def test_set_changes_one_value(tmp_path: Path, override: str, expected: object) -> None:
    recipe, _ = load_recipe(str(write_recipe(tmp_path)), [override])
    assert callable(expected)
    assert expected(recipe)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"sed": 1}, ["recipe.sed", "unknown key", "'seed'"]),
        ({"output": {"enconding": "png"}}, ["recipe.output.enconding", "'encoding'"]),
        ({"output": {"encoding": "tiff"}}, ["recipe.output.encoding", "'tiff'"]),
        ({"output": {"quality": 0}}, ["recipe.output.quality", "0"]),
        ({"seed": -1}, ["recipe.seed", "-1"]),
        ({"seed": "seven"}, ["recipe.seed", "'seven'"]),
        ({"version": 2}, ["recipe.version", "2"]),
        ({"branches": []}, ["recipe.branches"]),
        ({"branches": [{**FLIP, "copys": 2}]}, ["recipe.branches[0].copys", "'copies'"]),
        ({"branches": [{**FLIP, "name": "No Spaces"}]}, ["recipe.branches[0].name", "No Spaces"]),
        ({"watermark": {"scheme": "stdm", "psnr": 40}}, ["recipe.watermark", "psnr", "'psnr_db'"]),
        ({"resources": {"flip": {"gpu": 1}}}, ["recipe.resources.flip.gpu", "'gpus'"]),
    ],
)
def test_a_wrong_recipe_is_one_line(tmp_path: Path, sections: dict[str, object], words: list[str]) -> None:
    path = write_recipe(tmp_path, sections.pop("branches", None) or None, **sections)  # type: ignore[arg-type]
    if words == ["recipe.branches"]:
        path.write_text(path.read_text().split("branches:")[0] + "branches: []\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "a: [1, 2", ""])
def test_what_is_not_a_recipe_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match="recipe"):
        load_recipe(str(path))


@pytest.mark.parametrize("override", ["seed", "=1", "branches.styled.copies=1", "seed.deep=1", "branches.7.copies=1"])
def test_a_wrong_override_is_said(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        load_recipe(str(write_recipe(tmp_path)), [override])


def test_a_missing_recipe_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(str(tmp_path / "none.yaml"))


def test_the_demo_uses_every_family_with_embedded_models() -> None:
    recipe, base = load_recipe(str(Path(__file__).parents[2] / "jobs/recipes/demo.yaml"))
    plan = make_plan(recipe, base, key_id="0" * 16)
    used = {step.operator for branch in plan.branches for step in branch.steps}
    assert used == {"classical", "adain_style", "diffusion_edit", "diffusion_generate", "gan_synth"}
    models = {model.reference for branch in plan.branches for step in branch.steps for model in step.models.values()}
    diffusion = {"builtin:fashion-diffusion", "builtin:fashion-diffusion-4step"}
    assert models == {"builtin:adain", "builtin:fashion-wgan", *diffusion}


def test_an_unknown_key_is_named_also_where_it_replaces_a_required_one(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    path.write_text(path.read_text().replace("seed: 7", "sead: 7"))
    with pytest.raises(RecipeError, match=r"recipe\.sead: unknown key \(did you mean 'seed'\?\)"):
        load_recipe(str(path))


@pytest.mark.parametrize("size", ["0", "-4", "16385", "1.5", "'32'", "true", "sauce", "null", "[8, 8]"])
def test_a_size_is_source_or_a_whole_number_of_pixels(tmp_path: Path, size: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.output\.size = .*`source`, or .* from 1 to 16384"):
        load_recipe(str(write_recipe(tmp_path)), [f"output.size={size}"])


def test_sizes_in_bounds_are_taken(tmp_path: Path) -> None:
    for size in ("source", 1, 16384):
        recipe, _ = load_recipe(str(write_recipe(tmp_path)), [f"output.size={size}"])
        assert recipe.output.size == size


@pytest.mark.parametrize(
    "override",
    [
        "a.b=[", "seed=!!python/object:os.x", "seed=2024-99-99", "seed={a: 1, a: 2}", "seed=010", "seed=1:30",
        "seed=.inf", "seed=1.0e+999", "seed=99999999999999999999",
    ],
)  # fmt: skip
def test_an_override_that_is_not_yaml_is_one_line(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError, match="--set") as caught:
        load_recipe(str(write_recipe(tmp_path)), [override])
    assert "\n" not in str(caught.value)


def test_a_key_that_is_there_twice_is_named(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    path.write_text(path.read_text() + "seed: 8\n")
    with pytest.raises(RecipeError, match=r"'seed' is there twice.*line \d+") as caught:
        load_recipe(str(path))
    assert "\n" not in str(caught.value)


def test_a_merged_key_may_be_said_again(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    path.write_text(path.read_text().replace("output:\n", "output:\n  <<: {uri: elsewhere, encoding: webp}\n"))
    recipe, _ = load_recipe(str(path))
    assert (recipe.output.uri, recipe.output.encoding) == ("out", "webp")


@pytest.mark.parametrize("given", ["", "  "])
def test_an_empty_uri_on_the_command_line_is_not_the_working_directory(tmp_path: Path, given: str) -> None:
    for uris in ({"input_uri": given}, {"output_uri": given}):
        with pytest.raises(RecipeError, match=r"--(input|output) is empty"):
            load_recipe(str(write_recipe(tmp_path)), **uris)


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("seed=yes", "recipe.seed"),
        ("output.quality=on", "recipe.output.quality"),
        ("quality.max_quarantined_share=true", "recipe.quality.max_quarantined_share"),
        ("numerics.micro_batch=off", "recipe.numerics.micro_batch"),
        ("resources.flip={gpus: true}", "recipe.resources.flip.gpus"),
    ],
)
def test_yes_and_no_are_no_numbers(tmp_path: Path, override: str, place: str) -> None:
    with pytest.raises(RecipeError, match=f"{re.escape(place)} = (True|False): needs a number; yes, no"):
        load_recipe(str(write_recipe(tmp_path)), [override])


def test_parameters_that_are_true_or_numbers_take_what_they_say() -> None:
    from pipeline.operators.style.adain_style import AdaINStyle

    wanted = AdaINStyle.Params.model_validate({"styles": "a", "preserve_color": True, "alpha_range": [0, 1]})
    assert wanted.preserve_color is True and wanted.alpha_range == (0, 1)
    with pytest.raises(ValueError, match="needs a number"):
        AdaINStyle.Params.model_validate({"styles": "a", "alpha_range": [False, 1]})
