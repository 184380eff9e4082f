"""`croissant.json`: the data set described for machines (MLCommons Croissant 1.0), file by file with sha256."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from pipeline.seeding import canonical_json
from schemas.manifest import Manifest

TERMS = [
    *("citeAs", "column", "data", "dataType", "equivalentProperty", "examples", "extract", "field", "fileObject"),
    *("fileProperty", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField"),
    *("path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator", "source"),
    *("subField", "transform"),
]
TYPED = {
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    **{term: f"cr:{term}" for term in TERMS},
    **TYPED,
}
FIELDS = {
    "sample_id": "sc:Text",
    "label": "sc:Text",
    "branch": "sc:Text",
    "source_uri": "sc:Text",
    "source_row": "sc:Integer",
    "source_sha256": "sc:Text",
    "copy_index": "sc:Integer",
    "digital_source_type": "sc:Text",
    "image_sha256": "sc:Text",
}
FILES = "data-files"
_AT_ONCE = 1_000


def croissant_json(manifest: Manifest, files: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield parts of the JSON of the Croissant description: every file in `data/`, and columns of its rows.

    Args:
        files: `path`, `bytes` and `sha256` of every file in `data/`; a thousand are held at a time.
    """
    before, after = canonical_json(_described(manifest)).split('"distribution":[')
    yield f'{before}"distribution":['
    left = iter(files)
    while some := [_file(file) for file in islice(left, _AT_ONCE)]:
        yield canonical_json(some)[1:-1] + ","
    yield after


def _file(file: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file["path"],
        "name": file["path"].rsplit("/", 1)[-1],
        "contentUrl": file["path"],
        "contentSize": f"{file['bytes']} B",
        "encodingFormat": "application/x-parquet",
        "sha256": file["sha256"],
    }


def _described(manifest: Manifest) -> dict[str, Any]:
    """Return the description with the set of all files alone."""
    everything = {
        "@type": "cr:FileSet",
        "@id": FILES,
        "name": FILES,
        "encodingFormat": "application/x-parquet",
        "includes": "data/*.parquet",
    }
    fields = [_field("image", "sc:ImageObject", {"jsonPath": "bytes"})]
    fields += [_field(name, kind, None) for name, kind in FIELDS.items()]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": "palimpsest-augmented-images",
        "description": f"{manifest.counts.accepted} images made by Palimpsest {manifest.palimpsest}, with lineage.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "version": manifest.palimpsest,
        "distribution": [everything],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "images", "name": "images", "field": fields}],
    }


def _field(column: str, kind: str, transform: dict[str, str] | None) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": FILES}, "extract": {"column": column}}
    if transform:
        source["transform"] = transform
    return {"@type": "cr:Field", "@id": f"images/{column}", "name": column, "dataType": kind, "source": source}
