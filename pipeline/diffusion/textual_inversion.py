"""Textual inversion: new words for a text encoder, one learned vector each, in a safetensors file {word: vector}.

Gal et al. 2022, "An Image is Worth One Word: Personalizing Text-to-Image Generation using Textual Inversion",
arXiv:2208.01618, section 3. The encoder's own embedding table stays as it is: a `TokenTable` is put before it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.messages import one_line
from pipeline.model_files import weights

METADATA_KEY = "learned_tokens"


class TokenTable(nn.Module):
    """Token numbers [...] -> embeddings [..., width]: rows of the encoder's own table, or of `vectors` [K, width].

    Only `vectors` may be trained: the own table is frozen, and no gradient reaches it.
    """

    def __init__(self, own: nn.Embedding, vectors: Tensor, numbers: list[int]) -> None:
        super().__init__()
        self.own = own.requires_grad_(False)
        self.vectors = nn.Parameter(vectors)
        places = torch.full((max([own.num_embeddings - 1, *numbers]) + 1,), -1)
        places[numbers] = torch.arange(len(numbers))
        self.register_buffer("places", places, persistent=False)
        self.places: Tensor

    @property
    def weight(self) -> Tensor:
        """The encoder's own table, from which libraries read dtype and device."""
        return self.own.weight

    def forward(self, numbers: Tensor) -> Tensor:
        places = self.places[numbers]
        learnt = places >= 0
        known: Tensor = self.own(torch.where(learnt, 0, numbers))
        return torch.where(learnt[..., None], self.vectors[places.clamp(min=0)].to(known), known)


def add_tokens(pipeline: Any, vectors: Mapping[str, Tensor], name: object) -> TokenTable:
    """Add words, each with its vector [width], to a pipeline's tokenizer and text encoder, for use in prompts.

    Args:
        pipeline: with one `tokenizer` and one `text_encoder`.
        name: what to call the words' file, or the model, in an error.

    Raises:
        ModelError: there is no such encoder or more than one, a word is known already, or a vector has another width.
    """
    tokenizer, encoder = getattr(pipeline, "tokenizer", None), getattr(pipeline, "text_encoder", None)
    if tokenizer is None or encoder is None or getattr(pipeline, "text_encoder_2", None) is not None:
        raise ModelError(
            f"tokens {name}: {type(pipeline).__name__} has not one text encoder but none or several; learned tokens "
            "are for pipelines with one"
        )
    own, known = encoder.get_input_embeddings(), tokenizer.get_vocab()
    for word, vector in vectors.items():
        if word in known:
            raise ModelError(f"tokens {name}: {word!r} is a word of the model's already; give it another name")
        if tuple(vector.shape) != (own.embedding_dim,):
            raise ModelError(
                f"tokens {name}: {word!r} is {tuple(vector.shape)}, and the model's words are ({own.embedding_dim},); "
                "they were learnt for another model"
            )
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in vectors])
    numbers = [int(tokenizer.convert_tokens_to_ids(word)) for word in vectors]
    table = TokenTable(own, torch.stack([*vectors.values()]).to(own.weight), numbers)
    encoder.set_input_embeddings(table)
    return table


def read_tokens(path: str | Path) -> dict[str, Tensor]:
    """The words of a file and their vectors [width]. Raises ModelError where it holds anything else."""
    try:
        with safe_open(str(path), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"tokens {path}: cannot be read as safetensors: {one_line(error)}") from None
    found = {
        word: vector.float().squeeze(0) if vector.dim() == 2 else vector.float() for word, vector in tensors.items()
    }
    if not found or any(vector.dim() != 1 or not word.strip() for word, vector in found.items()):
        raise ModelError(f"tokens {path}: not a file of learned tokens; needed: one vector for each word")
    return found


def save_tokens(path: str | Path, vectors: Mapping[str, Tensor], about: str = "") -> None:
    """Write words and their vectors [width] as float32, whole or not at all."""
    metadata = {METADATA_KEY: json.dumps(sorted(vectors)), "about": about}
    weights.save_state(path, vectors, torch.float32, metadata)


def mean_vector(pipeline: Any, text: str) -> Tensor:
    """Return the initial vector [width] of a new word: the mean over the tokens of `text` (section 3: a coarse word).

    Raises ModelError where the text has none.
    """
    numbers = pipeline.tokenizer(text, add_special_tokens=False).input_ids
    if not numbers:
        raise ModelError(f"tokens: there is no word in {text!r} to start from")
    own: Tensor = pipeline.text_encoder.get_input_embeddings().weight
    return own[torch.tensor(numbers)].detach().float().mean(dim=0)
