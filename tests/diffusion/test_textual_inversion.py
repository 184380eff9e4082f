"""What a text encoder, a U-Net and their loss learn with: words, factors and targets, on tiny real classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from jobs.train.networks.lora_factors import LoraFactors, save_lora
from jobs.train.objectives.noise_prediction import add_noise, prediction_target
from palimpsest.testing.operators import act, make_batch
from pipeline.contracts import Assets, Draws
from pipeline.diffusion.lora import merge_lora
from pipeline.diffusion.text_pipelines import load_pipeline
from pipeline.diffusion.textual_inversion import add_tokens, mean_vector, read_tokens, save_tokens
from pipeline.errors import ModelError, RecipeError
from pipeline.operators.diffusion.diffusion_generate import DiffusionGenerate, DiffusionGenerateParams
from pipeline.validation import parse
from tests.fixtures.tiny_models import OWN_WARNING

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]

WORDS = {"<Ankle boot>": torch.linspace(-2, 2, 8), "<T-shirt/top>": torch.linspace(3, -3, 8)}


@pytest.fixture
def pipeline(tiny: Callable[[str], Path]) -> Any:
    return load_pipeline(tiny("stable"), "generate")


# ---- words -----------------------------------------------------------------------------------------------------------


def test_a_word_is_its_vector_and_all_others_are_what_they_were(pipeline: Any) -> None:
    before = pipeline.text_encoder.get_input_embeddings().weight.detach().clone()
    plain = pipeline.tokenizer("a boot on it").input_ids
    known = pipeline.text_encoder.get_input_embeddings()(torch.tensor(plain))
    table = add_tokens(pipeline, WORDS, "file")
    numbers = pipeline.tokenizer("an <Ankle boot> and a <T-shirt/top>on").input_ids
    found = table(torch.tensor([numbers]))[0]
    assert numbers.count(len(before)) == 1 and numbers.count(len(before) + 1) == 1
    assert torch.equal(found[numbers.index(len(before))], WORDS["<Ankle boot>"])
    assert torch.equal(found[numbers.index(len(before) + 1)], WORDS["<T-shirt/top>"])
    assert pipeline.tokenizer("a boot on it").input_ids == plain and torch.equal(table(torch.tensor(plain)), known)
    assert torch.equal(table.own.weight, before)


def test_gradients_reach_the_words_that_were_used_and_nothing_else(pipeline: Any) -> None:
    pipeline.text_encoder.requires_grad_(False)
    table = add_tokens(pipeline, WORDS, "file")
    numbers = pipeline.tokenizer("a <Ankle boot>", return_tensors="pt").input_ids
    pipeline.text_encoder(numbers)[0].square().sum().backward()
    assert table.vectors.grad is not None and table.own.weight.grad is None
    assert table.vectors.grad[0].abs().sum() > 0 and not table.vectors.grad[1].any()
    assert [name for name, each in pipeline.text_encoder.named_parameters() if each.requires_grad] == [
        "embeddings.token_embedding.vectors"
    ]


def test_a_new_word_starts_as_the_mean_of_known_ones(pipeline: Any) -> None:
    own = pipeline.text_encoder.get_input_embeddings().weight
    letters = [pipeline.tokenizer.convert_tokens_to_ids(each) for each in ("a", "b</w>")]
    torch.testing.assert_close(mean_vector(pipeline, "ab"), own[letters].mean(0))
    with pytest.raises(ModelError, match="no word in ''"):
        mean_vector(pipeline, "")


def test_a_file_of_words_comes_back(tmp_path: Path) -> None:
    save_tokens(tmp_path / "words.safetensors", WORDS, "by a test")
    found = read_tokens(tmp_path / "words.safetensors")
    assert set(found) == set(WORDS) and all(torch.equal(found[word], WORDS[word]) for word in WORDS)
    save_file({"<one>": torch.ones(1, 8)}, tmp_path / "row.safetensors")  # as some files have it
    assert read_tokens(tmp_path / "row.safetensors")["<one>"].shape == (8,)


def test_what_is_no_file_of_words_or_fits_no_model_is_one_line(
    pipeline: Any, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "words.safetensors"
    path.write_text("no tensors")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        read_tokens(path)
    for tensors in ({}, {"unet.weight": torch.zeros(4, 4)}):
        save_file(tensors, path)
        with pytest.raises(ModelError, match="one vector for each word"):
            read_tokens(path)
    for words, message in (
        ({"<|endoftext|>": torch.zeros(8)}, "is a word of the model's already"),
        ({"<boot>": torch.zeros(4)}, r"'<boot>' is \(4,\), and the model's words are \(8,\)"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            add_tokens(pipeline, words, path)
        assert "\n" not in str(caught.value)
    for kind in ("large", "third"):
        with pytest.raises(ModelError, match="pipelines with one"):
            add_tokens(load_pipeline(tiny(kind), "generate"), WORDS, path)


def operator(tiny: Callable[[str], Path], tokens: Path | None, kind: str = "stable") -> DiffusionGenerate:
    params = DiffusionGenerateParams(model="model", steps=4, textual_inversion=None if tokens is None else str(tokens))
    made = DiffusionGenerate(params)
    assets = {"model": tiny(kind), **({} if tokens is None else {"textual_inversion": tokens})}
    assert set(made.requirements().models) == set(assets)
    made.load("cpu", Assets(models=assets))
    return made


def test_a_prompt_names_a_learned_word_and_other_prompts_do_not_change(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    save_tokens(tmp_path / "one.safetensors", {"<boot>": WORDS["<Ankle boot>"]})
    save_tokens(tmp_path / "other.safetensors", {"<boot>": 5 * WORDS["<T-shirt/top>"]})
    files = (None, tmp_path / "one.safetensors", tmp_path / "other.safetensors", tmp_path / "one.safetensors")
    images = {}
    for prompt in ("a <boot>", "a boot"):
        told = {"class_index": [-1], "guidance": [7.0], "prompt": [prompt], "negative_prompt": [""]}
        images[prompt] = [act(operator(tiny, file), make_batch([0], None), Draws(told)).images for file in files]
    taught, plain = images.values()
    assert (taught[1] != taught[2]).any() and (taught[0] != taught[1]).any() and (taught[1] == taught[3]).all()
    assert all((each == plain[0]).all() for each in plain)


def test_models_without_prompts_take_no_words(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    save_tokens(tmp_path / "words.safetensors", WORDS)
    for kind in ("dit", "pixel"):
        with pytest.raises(ModelError, match="leave `textual_inversion` out"):
            operator(tiny, tmp_path / "words.safetensors", kind)
    with pytest.raises(RecipeError, match=r"textual_inversion.* is a pickle"):
        parse(DiffusionGenerateParams, {"textual_inversion": "words.bin"}, "diffusion_generate")


# ---- factors ---------------------------------------------------------------------------------------------------------


def test_factors_change_nothing_at_first_and_are_merged_as_they_were_trained(pipeline: Any, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    latents, words = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 8, generator=generator)
    times = torch.tensor([10, 700])

    def answer() -> torch.Tensor:
        with torch.no_grad():
            said: torch.Tensor = pipeline.unet(latents, times, encoder_hidden_states=words).sample
        return said

    plain = answer()
    factors = LoraFactors(pipeline.unet, 2, 6.0, generator)
    assert torch.equal(answer(), plain)
    for up in factors.up:
        torch.nn.init.normal_(up, std=0.3, generator=generator)
    trained = answer()
    assert not torch.allclose(trained, plain, atol=1e-3)
    save_lora(tmp_path / "lora.safetensors", factors)
    fresh = load_pipeline(pipeline.config._name_or_path, "generate")
    assert merge_lora(fresh, tmp_path / "lora.safetensors", 1.0) == len(factors.names) > 0
    pipeline = fresh
    torch.testing.assert_close(answer(), trained, atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="no attention layer"):
        LoraFactors(torch.nn.Linear(2, 2), 2, 2.0, generator)


# ---- targets ---------------------------------------------------------------------------------------------------------


def test_targets_are_the_librarys() -> None:
    from diffusers import DDPMScheduler

    schedule, times = DDPMScheduler(), torch.tensor([0, 400, 999])
    images, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    shares = schedule.alphas_cumprod[times]
    torch.testing.assert_close(add_noise(images, noise, shares), schedule.add_noise(images, noise, times))
    velocity = prediction_target("v_prediction", images, noise, shares)
    torch.testing.assert_close(velocity, schedule.get_velocity(images, noise, times))
    assert prediction_target("epsilon", images, noise, shares) is noise
    with pytest.raises(ValueError, match="'sample' is not known; known: epsilon, v_prediction"):
        prediction_target("sample", images, noise, shares)
