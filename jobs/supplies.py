"""What an operator loads where there is no run: its model files and reference images, from where they were found."""

from dataclasses import replace

from pipeline.contracts import Part, ReferenceImage, Supply
from pipeline.materials import Fitting
from pipeline.models.references import local_file
from pipeline.planning.banks import read_images
from pipeline.planning.parts import find_files


def supply_of(part: Part, base: str = ".") -> Supply:
    """Return what `load` of a part must be given, fitted here and now where it wants that; paths start at `base`.

    Raises:
        ModelError: a model is not there.
        InputError: a reference set is empty.
        JobError: the images are not fit for it.
    """
    models, images = find_files(part, base)
    found = Supply(
        models={name: local_file(model) for name, model in models.items()},
        images={
            name: [ReferenceImage(ref.uri, ref.sha256, data) for ref, data in read_images(refs)]
            for name, refs in images.items()
        },
    )
    if isinstance(part, Fitting) and part.needs().fitted:
        return replace(found, images={}, fitted=part.fit(found))
    return found
