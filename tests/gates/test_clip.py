"""How well an image fits a text: on a CLIP of the real classes, tiny and untrained. How well real weights judge is not
tested here: none can be fetched."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from palimpsest.testing.gates import CLASSES, GateConformance, made_batch
from pipeline.contracts import Assets, MadeBatch
from pipeline.errors import JobError, ModelError, RecipeError
from pipeline.execution.gate_scores import keeps
from pipeline.gates.clip import Clip
from pipeline.model_files.folders import folder_sha256
from pipeline.networks.clip import Preprocessing, TextImageModel
from pipeline.validation import parse
from tests.fixtures.shard_files import pictures
from tests.fixtures.tiny_models import save_clip

pytestmark = pytest.mark.usefixtures("one_thread")


class ClipConformance(GateConformance):
    gate = Clip
    tolerance = 2e-6
    folder: Path

    @pytest.fixture(autouse=True)
    def _folder(self, tiny: Callable[[str], Path]) -> None:
        self.folder = tiny("clip")

    def assets(self, folder: Path) -> Assets:
        return Assets(models={"model": self.folder})


class TestClassConformance(ClipConformance):
    params: ClassVar[dict[str, Any]] = {"model": "clip", "min_score": 0.1}


class TestPromptConformance(ClipConformance):
    params: ClassVar[dict[str, Any]] = {"model": "clip", "mode": "prompt"}


class TestTopClassConformance(ClipConformance):
    params: ClassVar[dict[str, Any]] = {"model": "clip", "mode": "top_class"}


@pytest.fixture
def folder(tiny: Callable[[str], Path]) -> Path:
    return tiny("clip")


def gate(folder: Path, **params: Any) -> Clip:
    made = Clip(Clip.Params(model=str(folder), **params))
    made.load("cpu", Assets(models={"model": folder}))
    return made


def library_cosines(folder: Path, images: Any, texts: list[str]) -> Any:
    """What the library itself says, by its own processor and its own forward pass."""
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    model, words = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    pixels = CLIPImageProcessor.from_pretrained(folder)(list(images), return_tensors="pt")
    with torch.inference_mode():
        out = model(**pixels, **words(texts, padding=True, return_tensors="pt"))
        return (out.logits_per_image / model.logit_scale.exp()).numpy()


TEXTS = ["a photo of a shirt", "a photo of a shoe", "bag", "a far longer text about nothing"]


def test_cosines_are_those_of_the_library(folder: Path) -> None:
    images = np.stack(pictures(5, 16, 16))
    found = TextImageModel(folder, "cpu").cosines(images, TEXTS)
    np.testing.assert_allclose(found, library_cosines(folder, images, TEXTS), atol=2e-5)
    assert found.std(axis=0).min() > 0.01 and found.std(axis=1).min() > 0.01  # the tiny model has opinions


@pytest.mark.parametrize("size", [(24, 32), (40, 20), (16, 23), (33, 33)])
def test_sizing_is_that_of_the_library(folder: Path, size: tuple[int, int]) -> None:
    from transformers import CLIPImageProcessor

    images = np.stack(pictures(3, *size))
    wanted = CLIPImageProcessor.from_pretrained(folder)(list(images), return_tensors="pt")["pixel_values"]
    given = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    found = Preprocessing(folder, 16)(given)
    assert found.shape == wanted.shape == (3, 3, 16, 16)
    assert (found - wanted).abs().max() < 0.03  # it rounds to whole grey levels between its steps: 0.015 of them each


def test_stretched_images_where_the_model_says_so(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "clip"))
    about = {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 16, "width": 16},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (copy / "preprocessor_config.json").write_text(json.dumps(about))
    prepared = Preprocessing(copy, 16)
    image = torch.zeros(1, 3, 16, 48)
    image[..., 24:] = 1
    assert prepared(image)[0, 0, 8].tolist()[0] == -1 and prepared(image)[0, 0, 8].tolist()[-1] == 1


def test_images_are_sized_as_clip_does_where_nothing_is_said(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "clip"))
    (copy / "preprocessor_config.json").unlink()
    images = torch.from_numpy(np.stack(pictures(2, 24, 32))).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(Preprocessing(copy, 16)(images), Preprocessing(folder, 16)(images))


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"size": {"shortest_edge": 20}, "crop_size": {"height": 20, "width": 20}}, r"makes \(3, 20, 20\), not 16 px"),
        ({"image_mean": [0.5, 0.5]}, "does not work"),
        ({"auto_map": {"AutoImageProcessor": "foreign.Sizes"}, "image_processor_type": "Sizes"}, "does not work"),
        ({"image_processor_type": None, "feature_extractor_type": "Nothing"}, "does not work"),
    ],
)
def test_an_odd_image_processor_is_one_line(folder: Path, tmp_path: Path, said: dict[str, Any], match: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "clip"))
    (copy / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Sizes: pass\n")
    about = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps(about | said))
    with pytest.raises(ModelError, match=match) as caught:
        TextImageModel(copy, "cpu")
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()


def test_a_class_scores_the_cosine_of_its_text(folder: Path) -> None:
    batch = made_batch(list(range(6)))
    texts = [f"a {name} on a table" for name in CLASSES]
    cosines = TextImageModel(folder, "cpu").cosines(batch.images, texts)
    found = gate(folder, text="a {label} on a table").score(batch)
    np.testing.assert_allclose(found, cosines[np.arange(6), batch.labels], atol=1e-6)


def test_the_top_class_is_kept_and_no_other(folder: Path) -> None:
    made = gate(folder, mode="top_class")
    images = np.stack(pictures(8, 24, 32))
    cosines = TextImageModel(folder, "cpu").cosines(images, [f"a photo of a {name}" for name in CLASSES])
    for label in range(len(CLASSES)):
        batch = MadeBatch(images, None, np.full(8, label, np.int64), CLASSES, [None] * 8)
        kept = [keeps(made, score) for score in made.score(batch)]
        assert kept == (cosines.argmax(axis=1) == label).tolist()
    second = np.sort(cosines, axis=1)[:, -2]
    batch = MadeBatch(images, None, cosines.argmax(axis=1), CLASSES, [None] * 8)
    np.testing.assert_allclose(made.score(batch), cosines.max(axis=1) - second, atol=1e-6)


def test_a_prompt_is_judged_by_itself(folder: Path) -> None:
    batch = made_batch(list(range(4)))
    found = gate(folder, mode="prompt").score(batch)
    cosines = TextImageModel(folder, "cpu").cosines(batch.images, [str(text) for text in batch.prompts])
    np.testing.assert_allclose(found, cosines.diagonal(), atol=1e-6)
    bare = MadeBatch(batch.images, None, batch.labels, CLASSES, ["a", None, "b", "c"])
    with pytest.raises(JobError, match="draws none"):
        gate(folder, mode="prompt").score(bare)


def test_an_image_without_a_class_has_no_score_and_is_refused(folder: Path) -> None:
    made = gate(folder, min_score=-1)
    batch = MadeBatch(made_batch([0, 1, 2]).images, None, np.array([0, -1, 7]), CLASSES, [None] * 3)
    scores = made.score(batch)
    assert np.isnan(scores).tolist() == [False, True, True]
    assert [keeps(made, score) for score in scores] == [True, False, False]
    nobody = MadeBatch(batch.images, None, np.full(3, -1), CLASSES, [None] * 3)
    assert np.isnan(made.score(nobody)).all()


def test_the_default_threshold_follows_the_mode() -> None:
    assert [Clip(Clip.Params(model="m", mode=mode)).bounds[0] for mode in ("class", "prompt", "top_class")] == [
        0.2, 0.2, 0.0,
    ]  # fmt: skip
    needed = {mode: Clip(Clip.Params(model="m", mode=mode)).requirements().classes for mode in ("class", "top_class")}
    assert {mode: each.min_names for mode, each in needed.items() if each} == {"class": 1, "top_class": 2}
    assert Clip(Clip.Params(model="m", mode="prompt")).requirements().classes is None


@pytest.mark.parametrize("text", ["a photo", "a {lable}", "{label} {}", "{label"])
def test_a_text_without_the_class_is_one_line(text: str) -> None:
    with pytest.raises(RecipeError, match=r"clip\.text = .*needs \{label\}"):
        parse(Clip.Params, {"model": "m", "text": text}, "clip")


def test_what_is_no_clip_is_one_line(folder: Path, tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "clip"))
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        folder_sha256(copy)
    for wrong in (copy, tiny("stable"), tiny("stable") / "text_encoder"):
        with pytest.raises(ModelError, match="CLIP model") as caught:
            TextImageModel(wrong, "cpu")
        assert "\n" not in str(caught.value)


def test_other_weights_are_another_identity(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    save_clip(tmp_path / "other", seed=1)
    assert folder_sha256(folder) != folder_sha256(tmp_path / "other")
