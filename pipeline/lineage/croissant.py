"""`croissant.json`: the data set described for machines (MLCommons Croissant 1.0), file by file with sha256."""

from collections.abc import Mapping
from typing import Any

from schemas.manifest import Manifest, Marker

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "includes": "cr:includes",
    "md5": "cr:md5",
    "recordSet": "cr:recordSet",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
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


def croissant(manifest: Manifest, markers: Mapping[str, Marker]) -> dict[str, Any]:
    """Return the Croissant description: every accepted file, and the columns a trainer reads first."""
    files = sorted(
        (marker.files["data"] for marker in markers.values() if "data" in marker.files), key=lambda file: file.path
    )
    distribution: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": file.path,
            "name": file.path.rsplit("/", 1)[-1],
            "contentUrl": file.path,
            "contentSize": f"{file.bytes} B",
            "encodingFormat": "application/x-parquet",
            "sha256": file.sha256,
        }
        for file in files
    ]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": "palimpsest-augmented-images",
        "description": f"{manifest.counts.accepted} images made by Palimpsest {manifest.palimpsest}, with lineage.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "version": manifest.plan_digest[:12],
        "distribution": distribution,
        "recordSet": [_records(file["@id"], index) for index, file in enumerate(distribution)],
    }


def _records(path: str, index: int) -> dict[str, Any]:
    fields = [_field(f"rows{index}/image", "image", "sc:ImageObject", path, [{"jsonPath": "bytes"}])]
    fields += [_field(f"rows{index}/{name}", name, kind, path, None) for name, kind in FIELDS.items()]
    return {"@type": "cr:RecordSet", "@id": f"rows{index}", "name": f"rows{index}", "field": fields}


def _field(name: str, column: str, kind: str, path: str, transform: list[dict[str, str]] | None) -> dict[str, Any]:
    source: dict[str, Any] = {"fileObject": {"@id": path}, "extract": {"column": column}}
    if transform:
        source["transform"] = transform
    return {"@type": "cr:Field", "@id": name, "name": column, "dataType": kind, "source": source}
