"""Real diffusers classes with a few channels, saved to a folder as a user has them: 16 px images, words of letters."""

import json
import string
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

OWN_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
"""What diffusers' schedulers call down on themselves with NumPy 2."""

WORDS = 40
CLASSES = ("shirt", "shoe", "bag")


def tokenizer(folder: Path) -> Any:
    """Every letter is a word of its own."""
    from transformers import CLIPTokenizer

    letters = string.ascii_lowercase
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=WORDS)


def text_encoder(projected: bool = False, size: int = 8) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    count = 2 * len(string.ascii_lowercase) + 2
    config = CLIPTextConfig(
        vocab_size=count,
        hidden_size=size,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=WORDS,
        bos_token_id=count - 2,
        eos_token_id=count - 1,
        pad_token_id=count - 1,
        projection_dim=size,
    )
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


def unet(**other: Any) -> Any:
    from diffusers import UNet2DConditionModel

    given: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 8,
        "attention_head_dim": 2,
        "norm_num_groups": 2,
    }
    return UNet2DConditionModel(**given | other)


def vae(**other: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        sample_size=16,
        **other,
    )


def _stable(folder: Path, cls: str = "StableDiffusionPipeline", **other: Any) -> Any:
    import diffusers

    parts: dict[str, Any] = {
        "vae": vae(),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(folder),
        "unet": unet(),
        "scheduler": diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    return getattr(diffusers, cls)(**parts | other)


def _inpaint(folder: Path) -> Any:
    return _stable(folder, "StableDiffusionInpaintPipeline", unet=unet(in_channels=9))


def _consistency(folder: Path) -> Any:
    from diffusers import LCMScheduler

    return _stable(
        folder,
        "LatentConsistencyModelPipeline",
        unet=unet(time_cond_proj_dim=8),
        scheduler=LCMScheduler(steps_offset=1),
    )


def _guarded(folder: Path) -> Any:
    """With a safety checker that flags every image."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    vision = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
        "projection_dim": 8,
    }
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=8))
    checker.concept_embeds_weights.data.fill_(-2.0)  # a cosine is always above
    return _stable(
        folder,
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        requires_safety_checker=True,
    )


def _large(folder: Path) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    network = unet(
        cross_attention_dim=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 8,
        transformer_layers_per_block=1,
        use_linear_projection=True,
    )
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(projected=True),
        tokenizer=tokenizer(folder),
        tokenizer_2=tokenizer(folder),
        unet=network,
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    )


def _third(folder: Path) -> Any:
    """Stable Diffusion 3: flow matching; without its third text encoder, which may be left out."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    network = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        out_channels=16,
    )
    return StableDiffusion3Pipeline(
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(latent_channels=16, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=text_encoder(projected=True),
        tokenizer=tokenizer(folder),
        text_encoder_2=text_encoder(projected=True),
        tokenizer_2=tokenizer(folder),
        text_encoder_3=None,
        tokenizer_3=None,
    )


def _flux(folder: Path) -> Any:
    """Flow matching with a T5 encoder; guidance is an input of its network. Give it a size: it says none of its own."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import Unigram
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -3.0) for letter in string.ascii_lowercase)]
    words = Tokenizer(Unigram(pieces, unk_id=2))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    text = T5Config(vocab_size=len(pieces), d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    network = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    return FluxPipeline(
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder),
        text_encoder_2=T5EncoderModel(text),
        tokenizer_2=T5TokenizerFast(tokenizer_object=words, extra_ids=0, model_max_length=WORDS),
    )


def _dit(folder: Path) -> Any:
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    network = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        norm_num_groups=2,
        sample_size=8,
        num_embeds_ada_norm=len(CLASSES),
    )
    torch.nn.init.normal_(network.transformer_blocks[0].norm1.emb.class_embedder.embedding_table.weight, std=2.0)
    return DiTPipeline(transformer=network, vae=vae(), scheduler=DDIMScheduler(clip_sample=False))


def pixel_unet(classes: int | None, **other: Any) -> Any:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=2,
        attention_head_dim=4,
        num_class_embeds=classes,
        **other,
    )


def save_pixel_unet(folder: Path, classes: int | None = len(CLASSES) + 1, named: bool = True) -> None:
    """A UNet2DModel with its scheduler beside it; one class more than there are names: the class of none."""
    from diffusers import DDPMScheduler

    pixel_unet(classes).save_pretrained(folder / "unet")
    DDPMScheduler(clip_sample=True).save_pretrained(folder / "scheduler")
    if named:
        about = {"_class_name": "DDPMPipeline", "id2label": dict(enumerate(CLASSES))}
        (folder / "model_index.json").write_text(json.dumps(about))


def _control(folder: Path) -> Any:
    """A ControlNet none of whose layers is silent."""
    from diffusers import ControlNetModel

    net = ControlNetModel.from_unet(unet(), conditioning_embedding_out_channels=(4, 8))
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=1.5)
    return net


def save_clip(folder: Path, seed: int = 0) -> None:
    """A CLIPModel of 16 px with its tokenizer, as published ones are saved. Its weights are large: answers differ."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(seed)
    text = text_encoder(size=16).config.to_dict()
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
        "projection_dim": 16,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder)
    tokenizer(folder).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)


PIPELINES: dict[str, Callable[[Path], Any]] = {
    "consistency": _consistency,
    "control": _control,
    "dit": _dit,
    "flux": _flux,
    "guarded": _guarded,
    "inpaint": _inpaint,
    "large": _large,
    "stable": _stable,
    "third": _third,
}


def save(kind: str, folder: Path, **how: Any) -> Path:
    """Save a model of a kind below `folder` and return its own folder."""
    torch.manual_seed(0)
    own = folder / kind
    own.mkdir()
    if kind == "pixel":
        save_pixel_unet(own)
        return own
    if kind == "clip":
        save_clip(own)
        return own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        PIPELINES[kind](folder).save_pretrained(own, **how)
    if kind == "dit":  # published ones name their classes there, several names a class
        index = json.loads((own / "model_index.json").read_text())
        index["id2label"] = {"0": "shirt, blouse", "1": "shoe", "2": "bag"}
        (own / "model_index.json").write_text(json.dumps(index))
    return own
