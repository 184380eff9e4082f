"""Further rows of a unit for operators that want one (`Operator.partner`): drawn by seed, handed over decoded.

The candidates of an image are the usable rows of its window and of the window before, those that `where` lets through
and that decode; a window is a fixed part of its unit, so neither batch nor place can change whom an image is given.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.contracts import Operator, Partner, PartnerRow, Pixels
from pipeline.seeding import generators, partner_seed
from pipeline.shards.columns.class_table import NO_CLASS, ClassTable
from pipeline.shards.reader import SourceRow

MIN_ROWS = 8
"""Source rows a window has at least where an operator wants partners, however many copies are made of each."""


@dataclass(frozen=True)
class Candidate:
    """A row that decoded, as the window read it."""

    row: SourceRow
    pixels: Pixels


def drawn_partner(
    sample_id: str, step: int, own: SourceRow, candidates: Sequence[Candidate], operator: Operator, table: ClassTable
) -> PartnerRow | None:
    """Return one of the candidates that the operator may be given with `own`, all equally likely; None without any.

    Never the row itself, and with `partner_class: other` none of its class, and none that has no class.
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
