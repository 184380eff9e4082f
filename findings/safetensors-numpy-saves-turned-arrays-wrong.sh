#!/usr/bin/env bash
# safetensors 0.8.0, numpy 2.4.6 (seen 2026-11-27).
#
# `safetensors.numpy.save_file` writes the memory of an array in the order in which it lies, and beside it the shape.
# For an array that is not in C order (a transposed view, channels moved, Fortran order) that is another array: shape
# and type are right, the values stand at other places, and nothing is raised. `safetensors.torch.save_file` raises
# ValueError for the like.
# Who is hurt: whoever turns weights around for another framework (`kernel.T`, NHWC to NCHW) and saves them: the model
# loads and gives nonsense. Remedy: `np.ascontiguousarray` around every array that is saved.
#
# Output seen:
#   saved [[0, 3], [1, 4], [2, 5]], loaded [[0, 1], [2, 3], [4, 5]]; with ascontiguousarray [[0, 3], [1, 4], [2, 5]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
from safetensors.numpy import load, load_file, save, save_file


def kept(array):
    save_file({"weight": array}, "weights.safetensors")
    loaded = load_file("weights.safetensors")["weight"]
    assert np.array_equal(load(save({"weight": array}))["weight"], loaded)
    assert (loaded.shape, loaded.dtype) == (array.shape, array.dtype)
    return loaded


turned = np.arange(6, dtype=np.int64).reshape(2, 3).T
print(
    f"saved {turned.tolist()}, loaded {kept(turned).tolist()}; "
    f"with ascontiguousarray {kept(np.ascontiguousarray(turned)).tolist()}"
)
assert kept(turned).tolist() == [[0, 1], [2, 3], [4, 5]]
assert np.array_equal(kept(np.ascontiguousarray(turned)), turned)
filters = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)
for other in (filters.transpose(0, 3, 1, 2), np.asfortranarray(filters)):
    assert not np.array_equal(kept(other), other)
PY
