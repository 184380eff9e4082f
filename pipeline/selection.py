"""`where`: which source rows a branch takes, as a pandas expression over the light columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import RecipeError
from pipeline.shards.reader import SourceRow

if TYPE_CHECKING:
    import pandas as pd


class Selection:
    """A row filter. `label` is always there under that name, and `row` is the index in the shard.

    Args:
        where: an expression such as `label in (2, 4) and split == "train"`; None takes every row.
    """

    def __init__(self, where: str | None) -> None:
        self._where = where

    def of(self, rows: Sequence[SourceRow]) -> list[int]:
        """Return the indexes of the chosen rows, ascending."""
        if self._where is None or not rows:
            return list(range(len(rows)))
        frame = _frame(rows)
        return [int(index) for index in np.flatnonzero(self._taken(frame))]

    def check(self, columns: Sequence[str], sample: SourceRow) -> None:
        """Try the expression on one row.

        Raises:
            RecipeError: it does not parse, names a column that is not there, or is not a condition.
        """
        try:
            taken = self._taken(_frame([sample]))
        except Exception as error:
            known = ", ".join(["label", "row", *columns])
            raise RecipeError(f"where = {self._where!r}: {error} (columns: {known})") from None
        if taken.dtype != np.bool_:
            raise RecipeError(f"where = {self._where!r}: not a condition; write a comparison, such as `label == 2`")

    def _taken(self, frame: "pd.DataFrame") -> npt.NDArray[np.generic]:
        """Return one value a row; an expression without columns is the same for every row."""
        return np.broadcast_to(np.asarray(frame.eval(self._where or "True", engine="python")), len(frame))


def _frame(rows: Sequence[SourceRow]) -> "pd.DataFrame":
    import pandas as pd  # half a second that only a run with `where` needs

    values: list[dict[str, Any]] = [{**row.light, "label": row.label, "row": row.row} for row in rows]
    return pd.DataFrame(values)
