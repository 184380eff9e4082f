"""Partner rows: a further row of the unit, drawn by seed and decoded, for operators that need one.

The candidates of an image are the usable rows of its window and of the window before, those that `where` lets through
and that decode; a window is a fixed part of its unit, so batches and machines do not change the partner of an image.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.contracts import Operator, Partner, PartnerRow, Pixels
from pipeline.seeding import generators, partner_seed
from pipeline.shards.columns.class_table import NO_CLASS, ClassTable
from pipeline.shards.reader import SourceRow

MIN_ROWS = 8
"""Smallest number of source rows of a window where an operator needs partners, whatever the number of copies."""


@dataclass(frozen=True)
class Candidate:
    """A row of the window with its decoded pixels [H, W, C]."""

    row: SourceRow
    pixels: Pixels


def drawn_partner(
    sample_id: str, step: int, own: SourceRow, candidates: Sequence[Candidate], operator: Operator, table: ClassTable
) -> PartnerRow | None:
    """Return the partner of the row `own`, drawn uniformly from the candidates; None where none is left.

    The row itself is never drawn; with `partner_class` 'other', neither are rows of its class and without a class.
    """
    assert operator.partner is not None
    others = [candidate for candidate in candidates if candidate.row.row != own.row]
    if operator.partner_class == "other":
        unwanted = (NO_CLASS, table.index(own.label))
        others = [each for each in others if table.index(each.row.label) not in unwanted]
    if not others:
        return None
    (generator,) = generators([partner_seed(sample_id, step)])
    chosen = others[int(generator.integers(len(others)))]
    row = chosen.row
    sha256 = hashlib.sha256(row.data or b"").hexdigest()
    partner = Partner(operator.partner, row.uri, sha256, row.row, row.id)
    return PartnerRow(partner, chosen.pixels, table.index(row.label))
