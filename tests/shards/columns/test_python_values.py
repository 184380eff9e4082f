"""A worker that needs no pandas does not load it, and still can."""

import subprocess
import sys

CODE = """
import sys
import pyarrow as pa
from pipeline.shards.columns.python_values import spare_pandas

spare_pandas()
found = pa.array([1.5, None])
print("pandas" in sys.modules, found.null_count)
print(pa.table({"value": found}).to_pandas()["value"].sum())
import pandas as pd
print(pa.array(pd.Series([1.0, float("nan")])).null_count)
"""


def test_an_array_is_made_without_pandas_which_loads_once_it_is_asked_for() -> None:
    said = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "1", "1.5", "1"]
