"""What makes diffusion quick, each seen at work: sources encoded once, one call for guidance, layouts, attention."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from palimpsest.testing.operators import act, assert_near, make_batch
from pipeline.contracts import Assets, Draws
from pipeline.diffusion import latent_cache
from pipeline.errors import ModelError
from pipeline.networks.compilation import check_compiler, padded
from pipeline.operators.diffusion.diffusion_edit import DiffusionEdit, DiffusionEditParams
from tests.fixtures.tiny_models import OWN_WARNING
from tests.operators.diffusion.test_diffusion_generate import assets_in

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(OWN_WARNING)]

COMPILES = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")


@pytest.fixture
def model(tmp_path: Path, tiny: Callable[[str], Path]) -> Callable[[str], Path]:
    return lambda kind: assets_in(tmp_path).models["model"] if kind == "flow" else tiny(kind)


def opened(path: Path, micro_batch: int | None = None, **params: Any) -> DiffusionEdit:
    operator = DiffusionEdit(DiffusionEditParams(**{"steps": 4, "strength_range": (0.5, 1.0)} | params))
    operator.load("cpu", Assets(models={"model": path}, micro_batch=micro_batch))
    return operator


def networks(operator: DiffusionEdit) -> dict[str, Any]:
    backend: Any = operator._backend
    if hasattr(backend, "net"):
        return {"net": backend.net}
    owner = backend.pipeline.pipeline if backend.takes_text else backend.model
    names = ("unet", "transformer", "vae", "_vae")
    return {name: getattr(owner, name) for name in names if getattr(owner, name, None) is not None}


@pytest.mark.parametrize("kind", ["stable", "large", "third", "inpaint", "dit"])
def test_a_sources_latents_are_encoded_once_for_all_its_copies(kind: str, model: Callable[[str], Path]) -> None:
    from pipeline.operators.diffusion.diffusion_inpaint import DiffusionInpaint, DiffusionInpaintParams

    operator: Any = opened(model(kind)) if kind != "inpaint" else None
    if operator is None:
        operator = DiffusionInpaint(
            DiffusionInpaintParams(steps=4, strength_range=(0.5, 0.9), object_share_range=(0.4, 0.4))
        )
        operator.load("cpu", Assets(models={"model": model(kind)}))
    vae = networks(operator).get("vae") or networks(operator)["_vae"]
    once = vae.encode
    batch = make_batch([0, 1, 2], (16, 16), 3)
    for run in range(3):  # three copies of three sources, at whatever strengths
        copies = make_batch([0, 1, 2], (16, 16), 3, run=run)
        act(operator, copies)
    assert once.encoded == (6 if kind == "inpaint" else 3)  # inpainting also encodes what stays
    kept = act(operator, batch).images
    del vae.encode  # the autoencoder's own
    np.testing.assert_array_equal(act(operator, batch).images, kept)


def test_latents_beyond_what_is_kept_are_encoded_again(
    model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = opened(model("stable"))
    once = networks(operator)["vae"].encode
    first = act(operator, make_batch([0, 1], (16, 16), 3)).images
    monkeypatch.setattr(latent_cache, "CACHE_BYTES", 1)
    act(operator, make_batch([2, 3], (16, 16), 3))
    assert len(once._cache) == 1
    np.testing.assert_array_equal(act(operator, make_batch([0, 1], (16, 16), 3)).images, first)
    assert once.encoded == 6


@pytest.mark.parametrize("kind", ["flow", "stable", "third", "dit", "pixel"])
def test_guidance_is_one_call_of_twice_the_rows(kind: str, model: Callable[[str], Path]) -> None:
    operator = opened(model(kind), guidance=3.0)
    found = networks(operator)
    network = found.get("net") or found.get("unet") or found["transformer"]
    rows: list[int] = []

    def seen(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        rows.append(len(given[0] if given else named["hidden_states"]))

    network.register_forward_pre_hook(seen, with_kwargs=True)
    batch = make_batch([0, 1, 2], (16, 16), 3)
    draws = operator.draw(batch)
    act(operator, batch, Draws({**draws.columns, "strength": [1.0] * 3}))
    assert rows == [6] * 4


@pytest.mark.parametrize("kind", ["flow", "stable", "large", "pixel"])
def test_convolutions_are_channels_last(kind: str, model: Callable[[str], Path]) -> None:
    for name, network in networks(opened(model(kind))).items():
        convolutions = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d)]
        assert convolutions, name
        assert all(each.weight.is_contiguous(memory_format=torch.channels_last) for each in convolutions)


@pytest.mark.parametrize("kind", ["flow", "stable", "large", "third", "dit", "pixel"])
def test_attention_is_pytorchs_fused_one(
    kind: str, model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = F.scaled_dot_product_attention, []

    def counted(*given: Any, **named: Any) -> Any:
        calls.append(given[0].shape)
        return plain(*given, **named)

    operator = opened(model(kind))
    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    act(operator, make_batch([0], (16, 16), 3))
    assert calls


@pytest.mark.parametrize("decode", ["sliced", "tiled"])
def test_an_autoencoder_may_take_images_one_by_one_or_in_tiles(decode: str, model: Callable[[str], Path]) -> None:
    batch = make_batch([0, 1, 2], (32, 32), 3)
    whole = act(opened(model("stable"), size_px=32), batch).images
    operator = opened(model("stable"), size_px=32, decode=decode)
    vae, sizes = networks(operator)["vae"], []
    vae.decoder.register_forward_pre_hook(lambda _, given: sizes.append(tuple(given[0].shape)))
    found = act(operator, batch).images
    assert (vae.use_slicing, vae.use_tiling) == (decode == "sliced", decode == "tiled")
    if decode == "sliced":
        assert {size[0] for size in sizes} == {1}
        assert_near(found, whole, 1)
    else:
        assert {size[2] for size in sizes} < set(range(16))  # 16 x 16 latents never come at once
        assert np.abs(found.astype(int) - whole).mean() < 16


# ---- compiled --------------------------------------------------------------------------------------------------------


@pytest.fixture
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_padding_repeats_the_last_row() -> None:
    values = torch.arange(6.0).view(3, 2)
    assert padded(values, 5).tolist() == [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]]
    assert torch.equal(padded(values, 3), values)


@COMPILES
@pytest.mark.usefixtures("_fresh")
@pytest.mark.slow
def test_a_compiled_network_knows_two_shapes_and_no_batch(model: Callable[[str], Path]) -> None:
    from torch._dynamo.utils import counters

    batch = make_batch(list(range(4)), (16, 16), 3)
    plain = act(opened(model("flow"), guidance=2.0), batch).images
    operator = opened(model("flow"), 4, compile=True, guidance=2.0)
    counters.clear()
    found = act(operator, batch).images
    assert_near(found, plain, 1)
    for rows in ([0], [2], [1, 2, 3]):
        np.testing.assert_array_equal(act(operator, make_batch(rows, (16, 16), 3)).images, found[rows])
    act(opened(model("flow"), 4, compile=True), batch)  # without guidance
    assert counters["stats"]["unique_graphs"] <= 4  # one and two micro-batches, and the trial of the compiler


@pytest.mark.usefixtures("_fresh")
def test_a_compiled_pipeline_is_called_with_whole_micro_batches(model: Callable[[str], Path]) -> None:
    with torch.compiler.set_stance("force_eager"):  # the same code, uncompiled: that takes a minute
        operator = opened(model("stable"), 4, compile=True, guidance=2.0)
        network, rows = networks(operator)["unet"], []
        assert network._compiled_call_impl is not None
        network.conv_in.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
        batch = make_batch([0, 1, 2], (16, 16), 3)
        plain = act(opened(model("stable"), guidance=2.0), batch).images
        assert_near(act(operator, batch).images, plain, 1)
        assert set(rows) == {8}


def test_where_nothing_can_be_compiled_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as config

    torch._dynamo.reset()
    monkeypatch.setattr(config.cpp, "cxx", ("there-is-no-such-compiler",))
    monkeypatch.setattr(config, "force_disable_caches", True)
    with pytest.raises(ModelError, match=r"nothing can be compiled here.*leave `compile` out") as caught:
        check_compiler("cpu")
    assert "\n" not in str(caught.value)
    torch._dynamo.reset()
