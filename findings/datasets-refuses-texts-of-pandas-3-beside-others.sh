#!/usr/bin/env bash
# datasets 5.2.0, pandas 3.1.1 and 2.3.3, pyarrow 26.0.1 (seen 2026-11-27).
#
# pandas 3 hands its texts to Arrow, and to Parquet, as `large_string`, where pandas 2 gave `string`. datasets takes
# them over as they are and holds the two for different types: rows of a frame cannot be concatenated or interleaved
# with rows of a dict, although both are texts. Loading the same files with one `load_dataset` works, and the first
# file's type wins.
# Who is hurt: scripts that add rows of a frame to a data set stop with "The features can't be aligned" after an update
# of pandas. Remedy: `cast_column("label", Value("string"))` on the rows of the frame.
#
# Output seen:
#   pandas 2.3.3: string, concatenated 3 rows, interleaved 2 rows
#   pandas 3.1.1: large_string, concatenated ValueError, interleaved ValueError, after cast_column 3 rows
#   one load_dataset: large_string where the frame's file is first, string where it is second
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0 pandas==2.3.3 pyarrow==26.0.1 numpy==2.4.6
export HF_HOME="$folder/home" HF_DATASETS_DISABLE_PROGRESS_BARS=1
cd "$folder"
cat > both.py <<'PY'
import datasets
import pandas as pd

frame = datasets.Dataset.from_pandas(pd.DataFrame({"label": ["cat", "dog"]}))
other = datasets.Dataset.from_dict({"label": ["bird"]})


def rows(join, first):
    try:
        return f"{len(join([first, other]))} rows"
    except ValueError as error:
        assert "features can't be aligned" in str(error), error
        return "ValueError"


kind = frame.features["label"].dtype
found = [rows(join, frame) for join in (datasets.concatenate_datasets, datasets.interleave_datasets)]
print(f"pandas {pd.__version__}: {kind}, concatenated {found[0]}, interleaved {found[1]}", end="")
if pd.__version__.startswith("2."):
    print()
    assert (kind, found) == ("string", ["3 rows", "2 rows"])
    raise SystemExit
cast = rows(datasets.concatenate_datasets, frame.cast_column("label", datasets.Value("string")))
print(f", after cast_column {cast}")
assert (kind, found, cast) == ("large_string", ["ValueError"] * 2, "3 rows")
pd.DataFrame({"label": ["cat", "dog"]}).to_parquet("frame.parquet")
other.to_parquet("other.parquet")
kinds = []
for files in (["frame.parquet", "other.parquet"], ["other.parquet", "frame.parquet"]):
    together = datasets.load_dataset("parquet", data_files=files, split="train")
    assert len(together) == 3
    kinds.append(together.features["label"].dtype)
print(f"one load_dataset: {kinds[0]} where the frame's file is first, {kinds[1]} where it is second")
assert kinds == ["large_string", "string"]
PY
"$folder/venv/bin/python" both.py
"$folder/venv/bin/python" -m pip install --quiet pandas==3.1.1
"$folder/venv/bin/python" both.py
