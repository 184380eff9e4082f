"""Further rows of a unit for operators that want one (`Operator.partner`): drawn by seed, handed over decoded.

The candidates of an image are the usable rows of its window and of the window before, those that `where` lets through
and that decode; a window is a fixed part of its unit, so neither batch nor place can change whom an image is given.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.contracts import Partner, PartnerRow, Pixels
from pipeline.seeding import generators, partner_seed
from pipeline.shards.reader import SourceRow

LEAST_ROWS = 8
"""Source rows a window has at least where an operator wants partners, however many copies are made of each."""


@dataclass(frozen=True)
class Candidate:
    """A row that decoded, as the window read it."""

    row: SourceRow
    pixels: Pixels


def drawn_partner(
    sample_id: str, step: int, own_row: int, candidates: Sequence[Candidate], role: str
) -> PartnerRow | None:
    """Return one of the candidates other than `own_row`, all equally likely; None where there is no other."""
    others = [candidate for candidate in candidates if candidate.row.row != own_row]
    if not others:
        return None
    (generator,) = generators([partner_seed(sample_id, step)])
    chosen = others[int(generator.integers(len(others)))]
    row = chosen.row
    sha256 = hashlib.sha256(row.data or b"").hexdigest()
    return PartnerRow(Partner(role, row.uri, sha256, row.row, row.id), chosen.pixels)
