"""Published pipelines: what they take, what they are not allowed, and texts encoded once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.diffusion import text_embeddings
from pipeline.diffusion.text_pipelines import TextPipeline, load_pipeline
from pipeline.errors import ModelError
from tests.fixtures.tiny_models import OWN_WARNING

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]


@pytest.fixture
def opened(tiny: Callable[[str], Path]) -> Callable[..., TextPipeline]:
    def load(kind: str, task: Any = "edit", **given: Any) -> TextPipeline:
        return TextPipeline(load_pipeline(tiny(kind), task), task, tiny(kind), "cpu", 4, **given)

    return load


def made(pipeline: TextPipeline, seeds: list[int], prompts: list[str], **given: Any) -> torch.Tensor:
    images = [torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    call = {"run": 2, "guidance": 3.0, "image": torch.stack(images)} | given
    if call["image"] is None:
        del call["image"]
    return pipeline(prompts, [""] * len(seeds), seeds, **call)[0]


def test_flux_is_edited_and_made_in_true_batches(opened: Callable[..., TextPipeline]) -> None:
    for task, given in (("edit", {}), ("generate", {"image": None, "run": 4})):
        pipeline = opened("flux", task, size_px=16)
        prompts = ["shoe", "bag", "shoe", "shirt"]
        together = made(pipeline, [1, 2, 3, 4], prompts, **given)
        assert together.shape == (4, 3, 16, 16) and pipeline._texts.encoded == 3
        for row in (0, 3):
            alone = made(pipeline, [row + 1], [prompts[row]], **given)
            torch.testing.assert_close(alone[0], together[row], atol=0.01, rtol=0)
        assert not torch.allclose(made(pipeline, [1, 2, 3, 4], prompts, **given, guidance=1.0), together)
    with pytest.raises(ModelError, match="size_px 18 is no multiple of 4; give 20"):
        opened("flux", size_px=18)
    with pytest.raises(ModelError, match="takes no negative prompt"):
        opened("flux", size_px=16).check_negative()


@pytest.mark.parametrize("kind", ["stable", "large", "third"])
def test_embeddings_make_the_image_that_prompts_make(kind: str, opened: Callable[..., TextPipeline]) -> None:
    pipeline = opened(kind)
    embedded = made(pipeline, [1, 2], ["shoe", "bag"])
    pipeline._texts._names = ()
    torch.testing.assert_close(made(pipeline, [1, 2], ["shoe", "bag"]), embedded, atol=0.01, rtol=0)


def test_texts_beyond_what_is_kept_are_encoded_again(
    opened: Callable[..., TextPipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = opened("stable")
    first = made(pipeline, [1, 2, 3], ["a", "b", "a"])
    assert pipeline._texts.encoded == 2
    monkeypatch.setattr(text_embeddings, "CACHE_BYTES", 1)
    made(pipeline, [1, 2, 3], ["c", "d", "c"])
    assert len(pipeline._texts._cache) <= 2
    assert torch.equal(made(pipeline, [1, 2, 3], ["a", "b", "a"]), first)


def test_a_folders_own_code_is_never_run(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("stable"), tmp_path / "foreign")
    (folder / "unet" / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Net: pass\n")
    (folder / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Pipe: pass\n")
    index = json.loads((folder / "model_index.json").read_text())
    for changed in ({"unet": ["foreign", "Net"]}, {"_class_name": ["foreign", "Pipe"]}):
        (folder / "model_index.json").write_text(json.dumps(index | changed))
        with pytest.raises(ModelError, match="not usable") as caught:
            load_pipeline(folder, "edit")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_class_that_cannot_do_a_task_says_so(tiny: Callable[[str], Path]) -> None:
    pipeline = load_pipeline(tiny("stable"), "generate")
    with pytest.raises(ModelError, match="StableDiffusionPipeline cannot edit: it takes no image, strength"):
        TextPipeline(pipeline, "edit", "model", "cpu", 4)
    with pytest.raises(ModelError, match="not usable"):
        load_pipeline(tiny("dit"), "edit")
