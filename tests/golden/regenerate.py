"""Write the goldens again and say what changed: `python -m tests.golden.regenerate`."""

import torch
from PIL import Image

from tests.golden.cases import CASES, difference, made


def main() -> None:
    torch.set_num_threads(1)
    for case in CASES:
        now = made(case)
        changed = difference(case, now)
        if changed > case.tolerance:
            Image.fromarray(now[:, :, 0] if now.shape[2] == 1 else now).save(case.path)
        state = "new" if changed == 256 else f"up to {changed} grey levels" if changed else "the same"
        print(f"{case.name:<20} {state}{', written' if changed > case.tolerance else ''}")


if __name__ == "__main__":
    main()
