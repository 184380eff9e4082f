"""The model of the device that made a unit stands in its record and in the manifest."""

from pathlib import Path

import torch

from pipeline.devices import device_for_model, device_model
from tests.fixtures.commit_logs import records_in
from tests.gpu.on_gpu import ADAIN, gpu_plan, made


def test_records_and_manifest_name_the_gpu_and_the_cpu(tmp_path: Path) -> None:
    branches = [
        {"name": "restyled", "copies": 1, "operators": [ADAIN]},
        {"name": "flipped", "copies": 1, "operators": [{"flip": {}}]},
    ]
    plan = gpu_plan(tmp_path, "out", branches, resources={"restyled": {"gpus": 1}})
    manifest, _ = made(plan)
    name = torch.cuda.get_device_name()
    assert manifest.devices == sorted([name, device_model("cpu")])
    found = {(m.branch, m.device) for m in records_in(tmp_path / "out").values()}
    assert found == {("restyled", name), ("flipped", device_model("cpu"))}
    assert device_for_model(name) == "cuda" and device_for_model(device_model("cpu")) == "cpu"
