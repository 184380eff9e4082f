"""A plain script for diffusion: one image a call, float32, all cores; compared with in `bench diffusion`.

python -m jobs.bench.contestants.diffusion_loop TASK
"""

import json
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from jobs.bench.contestants.diffusion_task import GenerationTask
from pipeline.model_files.references import ASSETS
from pipeline.networks.generators.flow_matching import load_flow


@torch.inference_mode()
def main(text: str) -> None:
    """Generate images, save PNG files, print rows and seconds as JSON; the model is loaded before the clock starts."""
    task = GenerationTask(**json.loads(text))
    torch.set_num_threads(task.workers)
    folder = Path(task.output)
    folder.mkdir(parents=True)
    net, classes = load_flow(ASSETS / "models" / "fashion-diffusion.safetensors")
    size = net.shape.size_px
    torch.manual_seed(task.seed)
    started = time.perf_counter()
    for index in range(task.images):
        label = torch.tensor([index % len(classes)])
        image = torch.randn(1, 1, size, size)
        for left in range(task.steps, 0, -1):
            image = image - net(image, torch.tensor([left / task.steps]), label) / task.steps
        grey = ((image[0, 0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        Image.fromarray(grey.numpy()).save(folder / f"{index}.png")
    print(json.dumps({"rows": task.images, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main(sys.argv[1])
