"""An embedded model outside the images it was made for is refused, unless the recipe forces it."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import RecipeError
from pipeline.model_files.references import ASSETS, FileRef
from pipeline.planning.input.model_domains import domain_of
from tests.fixtures.data_sets import plan_of, run_here, write_recipe
from tests.fixtures.shard_files import photos, pictures, write_shard

EDIT, MIX, SYNTH = {"diffusion_edit": {}}, {"diffusion_mix": {}}, {"gan_synth": {}}
NAMED = {"diffusion_edit": {"model": "builtin:fashion-diffusion-4step"}}


def branch(operator, force=False):
    ((name, params),) = operator.items()
    how = {"per_class": 2} if name in ("gan_synth", "diffusion_generate") else {"copies": 1}
    return {"name": "made", **how, "operators": [{name: {**params, **({"force": True} if force else {})}}]}


def write(folder: Path, images) -> None:
    write_shard(folder / "data" / "a.parquet", images, labels=[0] * len(images), class_names=["T-shirt/top", "Trouser"])


@pytest.mark.parametrize("operator", [EDIT, MIX, NAMED, SYNTH, {"diffusion_generate": {}}])
@pytest.mark.parametrize(
    ("images", "said"),
    [
        (photos(3, 28, 28), "28 x 28 pixels, colour"),
        (photos(3, 128, 256, channels=1), "256 x 128 pixels, grey"),
        ([*photos(2, 28, 28, channels=1), *photos(1, 65, 28)], "28 x 65 pixels, colour"),
        (photos(1, 8, 8, channels=1), "8 x 8 pixels, grey"),
    ],
)
def test_other_images_are_refused_and_can_be_forced(tmp_path, operator, images, said):
    write(tmp_path, images)
    with pytest.raises(RecipeError, match=rf"\.\w+: builtin:fashion.* was made for grey .* {said};.*force: true"):
        plan_of(write_recipe(tmp_path, [branch(operator)]))
    assert plan_of(write_recipe(tmp_path, [branch(operator, force=True)])).units


@pytest.mark.parametrize("operator", [EDIT, SYNTH])
@pytest.mark.parametrize(
    "images",
    [
        photos(3, 28, 28, channels=1),
        photos(3, 64, 64, channels=1),
        [np.repeat(image, 3, axis=2) for image in pictures(3, 32, 32, channels=1)],
        [b"no image", *photos(2, 28, 28, channels=1)],
    ],
)
def test_small_grey_images_pass(tmp_path, operator, images):
    write(tmp_path, images)
    assert plan_of(write_recipe(tmp_path, [branch(operator)])).units


def test_images_that_rows_name_are_looked_at_when_the_run_begins(tmp_path):
    path = tmp_path / "data" / "a.parquet"
    write_shard(path, photos(3, 28, 28), labels=[0] * 3, class_names=["T-shirt/top", "Trouser"], kind="path")
    plan = plan_of(write_recipe(tmp_path, [branch(EDIT)]))
    with pytest.raises(RecipeError, match="28 x 28 pixels, colour"):
        run_here(plan)
    assert not (tmp_path / "out").exists()


def test_the_size_that_reaches_the_model_counts(tmp_path):
    write(tmp_path, photos(3, 128, 256, channels=1))
    assert plan_of(write_recipe(tmp_path, [branch(EDIT)], output={"size": 28})).units


def test_force_changes_no_digest_and_is_no_parameter_of_the_lineage(tmp_path):
    write(tmp_path, photos(3, 28, 28, channels=1))
    plain, forced = (plan_of(write_recipe(tmp_path, [branch(EDIT, force)])) for force in (False, True))
    assert plain.digest == forced.digest
    assert "force" not in forced.branches[0].steps[0].params


def test_only_models_of_clothes_have_a_domain():
    stated = {path.stem for path in (ASSETS / "models").glob("*.json")}
    assert stated == {"fashion-diffusion", "fashion-diffusion-4step", "fashion-wgan"}
    for name in stated:
        domain = domain_of(FileRef(f"builtin:{name}", "", ""))
        assert domain is not None and domain.channels == 1 and domain.side_px == (16, 64)
    assert domain_of(FileRef("builtin:adain", "", "")) is None
    assert domain_of(FileRef("fashion-wgan", "", "")) is None
