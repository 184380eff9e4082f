"""The second half of `bench diffusion`: editing images with the architecture of Stable Diffusion 1.5, random weights.

Random weights cost what trained ones do. On a GPU the networks have their published sizes; without one everything is
tiny, and the figures say that they are not the real ones.

python -m jobs.bench.stable_diffusion_edit TASK
"""

import argparse
import contextlib
import io
import json
import string
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

STEPS, STRENGTH = 25, 0.5
GUIDANCE = 7.5
PROMPT = "a photograph of a garment"
NOT_REAL = "tiny networks on a CPU: these are not the real figures"


@dataclass(frozen=True)
class Size:
    """Sides and widths of the networks, and how many images each contestant edits."""

    side_px: int
    unet: tuple[int, ...]
    autoencoder: tuple[int, ...]
    text: int
    text_layers: int
    heads: int
    groups: int
    loop_images: int
    images: int


FULL = Size(512, (320, 640, 1280, 1280), (128, 256, 512, 512), 768, 12, 8, 32, loop_images=8, images=256)
TINY = Size(64, (32, 64, 64, 64), (16, 16, 32, 32), 32, 2, 2, 8, loop_images=4, images=24)


@dataclass(frozen=True)
class Edit:
    """One contestant's work."""

    model: str
    shards: str
    output: str
    side_px: int
    images: int
    gpu: bool
    loop: bool
    executor: str = "ray"
    dtype: str = "float32"  # of the product; the loop is float32

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def save_model(folder: Path, size: Size, device: str = "cpu", dtype: str = "float32") -> None:
    """Write the pipeline with random weights, as a user has it; drawn on `device`, stored as `dtype`."""
    import torch
    from diffusers import PNDMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    tokenizer, words = _tokenizer(folder)
    text = CLIPTextConfig(
        vocab_size=words,
        hidden_size=size.text,
        intermediate_size=4 * size.text,
        num_hidden_layers=size.text_layers,
        num_attention_heads=size.heads,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    with torch.device(device):
        networks = {"vae": _autoencoder(size), "text_encoder": CLIPTextModel(text), "unet": _unet(size)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of the libraries
        StableDiffusionPipeline(
            **{name: network.to(getattr(torch, dtype)) for name, network in networks.items()},
            tokenizer=tokenizer,
            scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(str(folder / "model"))


def _unet(size: Size) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=size.side_px // 8,
        block_out_channels=size.unet,
        cross_attention_dim=size.text,
        attention_head_dim=size.heads,
        norm_num_groups=size.groups,
    )


def _autoencoder(size: Size) -> Any:
    from diffusers import AutoencoderKL

    levels = len(size.autoencoder)
    return AutoencoderKL(
        block_out_channels=size.autoencoder,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=2,
        norm_num_groups=size.groups,
        sample_size=size.side_px,
    )


def _tokenizer(folder: Path) -> tuple[Any, int]:
    """Return a tokenizer with one token a letter, and its number of tokens."""
    from transformers import CLIPTokenizer

    letters = string.ascii_lowercase
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77), len(words)


def save_shard(folder: Path, size: Size) -> None:
    """Write smooth drawn images as one shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(0), []
    for index in range(size.images):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((size.side_px, size.side_px), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        rows.append({"bytes": buffer.getvalue(), "path": f"{index}.jpg"})
    pq.write_table(pa.table({"image": rows}), folder / "train-00000.parquet", row_group_size=64)


def main(text: str) -> None:
    """Do one contestant's work; print rows and seconds as JSON."""
    task = Edit(**json.loads(text))
    rows, seconds = _loop(task) if task.loop else _product(task)
    print(json.dumps({"rows": rows, "seconds": seconds}))


def _loop(task: Edit) -> tuple[int, float]:
    """The script a user writes: one image a call, float32; the model is loaded before the clock starts."""
    import pyarrow.parquet as pq
    import torch
    from diffusers import AutoPipelineForImage2Image

    Path(task.output).mkdir(parents=True)
    loaded: Any = AutoPipelineForImage2Image
    pipeline = loaded.from_pretrained(task.model).to("cuda" if task.gpu else "cpu")
    pipeline.set_progress_bar_config(disable=True)
    torch.set_num_threads(2)
    cells = pq.read_table(task.shards).column("image").to_pylist()[: task.images]
    settings = {"strength": STRENGTH, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
    started = time.perf_counter()
    for index, cell in enumerate(cells):
        image = Image.open(io.BytesIO(cell["bytes"]))
        made = pipeline(prompt=PROMPT, image=image, **settings).images[0]
        made.save(Path(task.output, f"{index}.png"))
    return len(cells), time.perf_counter() - started


def _product(task: Edit) -> tuple[int, float]:
    """A whole run, except starting Ray."""
    from jobs.commands.plan import read_plan
    from pipeline.cluster.connection import connect
    from pipeline.run import run_plan

    path = Path(f"{task.output}.recipe.json")
    path.write_text(json.dumps(recipe(task)))
    options = argparse.Namespace(recipe=str(path), input=None, output=None, set=[], limit=task.images)
    with contextlib.nullcontext() if task.executor == "inline" else connect("local"):
        started = time.perf_counter()
        manifest = run_plan(read_plan(options), task.executor, "local")
        seconds = time.perf_counter() - started
    return manifest.counts.accepted + manifest.counts.rejected, seconds  # random weights may make black images


def recipe(task: Edit) -> dict[str, Any]:
    """Return the recipe that a user would write."""
    edit = {
        "model": task.model,
        "steps": STEPS,
        "strength_range": [STRENGTH, STRENGTH],
        "guidance": GUIDANCE,
        "prompt": PROMPT,
    }
    resources = {"diffusion_edit": {"gpus": 1}} if task.gpu else {}
    return {
        "version": 1,
        "seed": 0,
        "input": {"uri": task.shards},
        "output": {"uri": task.output},
        "branches": [{"name": "edited", "copies": 1, "operators": [{"diffusion_edit": edit}]}],
        "watermark": "none",
        "numerics": {"dtype": task.dtype},
        "resources": resources,
    }


def measure(folder: Path, gpu: bool, rounds: int, executor: str = "ray", size: Size | None = None) -> dict[str, Any]:
    """Images a second of the loop and of the product (on a GPU in float32 too), medians of rounds taken in turn."""
    from jobs.bench.comparison import median_speeds
    from jobs.bench.machine import quick_dtype

    dtype = "bfloat16" if gpu else quick_dtype()
    size = size or (FULL if gpu else TINY)
    save_model(folder, size)
    save_shard(folder / "shards", size)
    shared = {
        "model": str(folder / "model"),
        "shards": str(folder / "shards" / "train-00000.parquet"),
        "output": "",
        "side_px": size.side_px,
        "gpu": gpu,
        "executor": executor,
    }
    tasks = {
        "bare_loop": Edit(**shared, images=size.loop_images, loop=True),
        "palimpsest": Edit(**shared, images=size.images, loop=False, dtype=dtype),
    }
    if gpu:  # the gain of half precision alone, which tiny networks do not show
        tasks["float32"] = Edit(**shared, images=size.images, loop=False)
    speeds = median_speeds({name: ("jobs.bench.stable_diffusion_edit", task) for name, task in tasks.items()}, rounds)
    return {
        "what": f"SD 1.5 architecture, random weights, {size.side_px} px, {STEPS} steps, strength {STRENGTH}",
        "note": "" if size is FULL else NOT_REAL,
        "images_per_s": speeds,
        "ratio": {name: round(speeds["palimpsest"] / speeds[name], 2) for name in speeds if name != "palimpsest"},
        "dtype": dtype,
    }


if __name__ == "__main__":
    main(sys.argv[1])
