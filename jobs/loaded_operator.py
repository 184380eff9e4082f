"""What an operator loads where there is no run: its model files and reference images, from where they were found."""

from dataclasses import replace

from pipeline.contracts import Part, Supply
from pipeline.planning.parts import find_files, supply
from pipeline.requirements import Fitting


def supply_of(part: Part, base: str = ".") -> Supply:
    """Return what `load` of a part must be given, fitted here and now where it wants that; paths start at `base`.

    Raises:
        ModelError: a model is not there.
        InputError: a reference set is empty.
        JobError: the images are not fit for it.
    """
    found = supply(*find_files(part, base))
    if isinstance(part, Fitting) and part.needs().fitted:
        return replace(found, images={}, fitted=part.fit(found))
    return found
