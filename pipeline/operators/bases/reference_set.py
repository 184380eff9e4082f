"""The set of reference images (styles, textures) that an operator draws from, with their keys. Imports no torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from pipeline.contracts import Partner, Pixels, ReferenceImage
from pipeline.errors import JobError, RowError
from pipeline.model_files.references import row_of
from pipeline.validation import nearest

MAX_PIXELS = 100_000_000
MAX_ASPECT = 16  # of the long side to the short one: resizing keeps it, so it bounds memory
KEY_DIGITS = 16  # of a reference's sha256, as it stands in the lineage


class ReferenceSet:
    """The references that one field of a recipe names, in the plan's order; raises JobError where there are none.

    Args:
        field: the field, as messages name it: `adain_style.styles`.
        value: what the recipe says there.
        noun: what one of them is called in messages: `style`, `texture`.
    """

    def __init__(self, field: str, value: str, references: Sequence[ReferenceImage], noun: str = "style") -> None:
        if not references:
            raise JobError(f"{field} = {value!r}: there is no image in it; give one or more")
        self._field, self._value, self._noun = field, value, noun
        self.references = tuple(references)
        self.keys = tuple(reference.sha256[:KEY_DIGITS] for reference in references)
        self.names = tuple(PurePosixPath(reference.uri).name for reference in references)
        self.partners = tuple(_partner(reference) for reference in references)
        self._places = {key: place for place, key in enumerate(self.keys)}

    def __len__(self) -> int:
        return len(self.references)

    def draw(self, generator: np.random.Generator, probabilities: npt.NDArray[np.float64] | None = None) -> int:
        """Return the place of one reference: all of them equally likely, or by `probabilities` [n], which sum to 1."""
        if probabilities is None:
            return int(generator.integers(len(self)))
        return int(generator.choice(len(self), p=probabilities))

    def probabilities(self, weights: Mapping[str, float], field: str) -> npt.NDArray[np.float64]:
        """Return how likely each reference is, [n], from weights by file name; one that is not named weighs 1.

        Raises JobError, which names `field`, where a name is none of them, or nothing weighs anything.
        """
        for name in weights:
            if name not in self.names:
                raise JobError(f"{field}: no {self._noun} is called {name!r}{nearest(name, list(self.names))}")
        found: npt.NDArray[np.float64] = np.array([weights.get(name, 1.0) for name in self.names], dtype=np.float64)
        if not found.sum() > 0:
            raise JobError(f"{field}: every {self._noun} weighs 0, so none can be drawn; give one of them more")
        found /= found.sum()
        return found

    def place(self, key: str) -> int:
        """Return the place of the reference with this key; JobError where there is none."""
        if key not in self._places:
            raise JobError(f"{self._field} = {self._value!r}: {self._noun} {key} of the lineage is not in it")
        return self._places[key]

    def pixels(self, place: int, decode: Callable[[bytes, int], Pixels]) -> Pixels:
        """Return a reference's pixels [h, w, 1 or 3] uint8, the long side at most 16 times the short one.

        `decode` makes pixels of encoded bytes and a bound on their number, and raises RowError. What cannot be used
        is a JobError that names the file.
        """
        reference = self.references[place]
        where = f"{self._field}: {reference.uri}"
        try:
            pixels = decode(reference.data, MAX_PIXELS)
        except RowError as error:
            raise JobError(f"{where}: not usable as a {self._noun} ({error}); remove or replace it") from error
        height, width = pixels.shape[:2]
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise JobError(f"{where}: {width} x {height} px is too narrow for a {self._noun}; crop it or remove it")
        return pixels


def _partner(reference: ReferenceImage) -> Partner:
    uri, row = row_of(reference.uri)
    return Partner("style", uri, reference.sha256, row)
