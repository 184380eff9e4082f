"""Assets of an operator outside of a run, as benches and measurements need them."""

from dataclasses import replace

from pipeline.contracts import Assets, Part
from pipeline.planning.parts import find_files, read_assets
from pipeline.requirements import Fittable


def assets_of(part: Part, base: str = ".") -> Assets:
    """Return the assets that `load` of a part gets, fitted here where it fits any; relative paths start at `base`.

    Raises:
        ModelError: a model is not there.
        InputError: a reference set is empty.
        JobError: the images are not fit for it.
    """
    found = read_assets(*find_files(part, base))
    if isinstance(part, Fittable) and part.requirements().fitted:
        return replace(found, images={}, fitted=part.fit(found))
    return found
