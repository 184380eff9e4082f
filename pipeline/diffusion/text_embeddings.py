"""A cache of prompt embeddings: each distinct prompt goes through the text encoders once, in a call of its own.

So an embedding does not depend on its batch, and a prompt that many images share is encoded once. A pipeline class
that takes no embeddings gets the prompts as text.
"""

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

CACHE_BYTES = 512 << 20
"""The most that the cache holds: 2,000 prompts of Stable Diffusion 1.5, 60 of a pipeline with a T5 encoder."""

_PLAIN = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_PLAIN, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_UNPAIRED = ("prompt_embeds", "pooled_prompt_embeds")
_RAGGED = ("prompt_attention_mask", "prompt_embeds_mask")  # where embeddings are as long as their batch's longest


class TextEmbeddings:
    """Turns N prompts into arguments of a pipeline's call. `encoded` counts the texts that were not in the cache."""

    def __init__(self, pipeline: Any, device: str) -> None:
        self._pipeline, self._device = pipeline, device
        self._takes = set(inspect.signature(type(pipeline).__call__).parameters)
        encode = getattr(type(pipeline), "encode_prompt", None)
        self._encoder_takes = set(inspect.signature(encode).parameters) if encode is not None else set()
        self._names = self._returned()
        self._cache: OrderedDict[tuple[str, str, bool], dict[str, Tensor]] = OrderedDict()
        self.encoded = 0

    def of(self, prompts: Sequence[str], negatives: Sequence[str], guided: bool) -> dict[str, Any]:
        """Arguments of the pipeline's call for N prompts and negative prompts (all empty: the pipeline's own default).

        guided: whether negative prompts are used.
        """
        if not self._names:
            plain: dict[str, Any] = {"prompt": list(prompts)}
            if any(negatives) or (guided and "true_cfg_scale" in self._takes):
                plain["negative_prompt"] = list(negatives)
            return plain
        rows = [self._one(prompt, negative, guided) for prompt, negative in zip(prompts, negatives, strict=True)]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0] if name in self._takes}

    def _returned(self) -> tuple[str, ...]:
        """The names of what `encode_prompt` returns, in its order; empty where they are unknown or cannot be cached."""
        if not self._encoder_takes or "prompt_embeds" not in self._takes or self._encoder_takes & set(_RAGGED):
            return ()
        if "negative_prompt_embeds" not in self._encoder_takes:
            return _UNPAIRED if "pooled_prompt_embeds" in self._encoder_takes else ()
        return _POOLED if "pooled_prompt_embeds" in self._encoder_takes else _PLAIN

    def _one(self, prompt: str, negative: str, guided: bool) -> dict[str, Tensor]:
        key = (prompt, negative if guided else "", guided)
        if key not in self._cache:
            self._cache[key] = found = self._encode(*key)
            if len(self._cache) * sum(tensor.nbytes for tensor in found.values()) > CACHE_BYTES:
                self._cache.popitem(last=False)
            return found
        self._cache.move_to_end(key)
        return self._cache[key]

    def _encode(self, prompt: str, negative: str, guided: bool) -> dict[str, Tensor]:
        found = self._call(prompt, negative, guided)
        if self._names == _UNPAIRED and guided:
            found |= {f"negative_{name}": value for name, value in self._call(negative, "", False).items()}
        return found

    def _call(self, prompt: str, negative: str, guided: bool) -> dict[str, Tensor]:
        self.encoded += 1
        given: dict[str, Any] = {
            "prompt": [prompt],
            "prompt_2": None,
            "prompt_3": None,
            "device": self._device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": guided,
            "negative_prompt": [negative] if negative else None,
        }
        made = self._pipeline.encode_prompt(
            **{key: value for key, value in given.items() if key in self._encoder_takes}
        )
        return {name: value for name, value in zip(self._names, made, strict=False) if value is not None}
