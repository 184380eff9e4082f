"""Weight files: the same weights are the same bytes."""

import json
from pathlib import Path

import torch
from safetensors.torch import load

from pipeline.model_files import weights

METADATA = {name: name for name in ("architecture", "about", "classes", "numbers", "steps")}


def test_the_order_of_the_header_is_fixed(tmp_path: Path) -> None:
    state = {"b": torch.arange(3.0), "a": torch.ones(2, 2)}
    weights.save_state(tmp_path / "one.safetensors", state, metadata=METADATA)
    file = (tmp_path / "one.safetensors").read_bytes()
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    assert length % 8 == 0 and list(header) == sorted(header)
    assert list(header["__metadata__"]) == sorted(METADATA)
    turned = {name: header[name] for name in reversed(header)}
    turned["__metadata__"] = dict(reversed(header["__metadata__"].items()))
    text = json.dumps(turned, indent=1).encode()
    assert weights.in_order(len(text).to_bytes(8, "little") + text + file[8 + length :]) == file
    assert torch.equal(load(file)["b"], state["b"])
