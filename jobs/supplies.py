"""What an operator loads where there is no run: its model files and reference images, from where they were found."""

from pipeline.banks import read_images
from pipeline.contracts import Part, ReferenceImage, Supply
from pipeline.models.references import local_file
from pipeline.parts import find_files


def supply_of(part: Part, base: str = ".") -> Supply:
    """Return what `load` of a part must be given; relative paths start at `base`.

    Raises:
        ModelError: a model is not there.
        InputError: a reference set is empty.
    """
    models, images = find_files(part, base)
    return Supply(
        models={name: local_file(model) for name, model in models.items()},
        images={
            name: [ReferenceImage(ref.uri, ref.sha256, data) for ref, data in read_images(refs)]
            for name, refs in images.items()
        },
    )
