"""`openlineage.jsonl`: one OpenLineage 2.0 event for the run and one for each unit.

Run ids are functions of the plan and unit digests, so a run that is published twice has the same id.
"""

import datetime
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from schemas.manifest import Failure, FileRecord, Manifest, UnitRecord

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

NAMESPACE = "palimpsest"
RUN_IDS = uuid.uuid5(uuid.NAMESPACE_DNS, NAMESPACE)
PRODUCER = "urn:palimpsest"


def openlineage_lines(
    manifest: Manifest, markers: Mapping[str, UnitRecord], failures: Sequence[Failure], output: str
) -> Iterator[str]:
    """Yield JSON lines: every committed and every failed unit, then the run.

    output: URI or absolute path of the data set. The time of all events is that of this call.
    """
    from openlineage.client.serde import Serde

    events = _RunEvents(manifest, output)
    for name in sorted(markers):
        yield Serde.to_json(events.committed(markers[name]))
    for failure in failures:
        yield Serde.to_json(events.failed(failure))
    yield Serde.to_json(events.run(markers))


class _RunEvents:
    """Makes the events of one run, which share its time and id."""

    def __init__(self, manifest: Manifest, output: str) -> None:
        self.manifest, self.output = manifest, output.rstrip("/")
        self.time = datetime.datetime.now(datetime.UTC).isoformat()
        self.run_id = str(uuid.uuid5(RUN_IDS, manifest.plan_digest))
        self.shards = {shard.path: shard for shard in manifest.shards}

    def committed(self, marker: UnitRecord) -> "RunEvent":
        files = list(marker.files.values())
        shards = [] if marker.shard is None else [marker.shard]
        outputs = [self._written(file.path, [file], file.sha256) for file in files]
        return self._event("COMPLETE", marker.digest, marker.branch, shards, outputs)

    def failed(self, failure: Failure) -> "RunEvent":
        from openlineage.client.generated.error_message_run import ErrorMessageRunFacet

        facet = ErrorMessageRunFacet(message=failure.error, programmingLanguage="python")
        return self._event("FAIL", failure.digest, failure.unit, [], [], {"errorMessage": facet})

    def run(self, markers: Mapping[str, UnitRecord]) -> "RunEvent":
        files = [file for marker in markers.values() for file in marker.files.values()]
        outputs = [self._written("", files, self.manifest.markers["sha256"])]
        state = "COMPLETE" if self.manifest.complete else "FAIL" if self.manifest.failed else "ABORT"
        return self._event(state, None, "run", list(self.shards), outputs)

    def _event(
        self,
        state: str,
        digest: str | None,
        job: str,
        shards: Sequence[str],
        outputs: "list[OutputDataset]",
        facets: dict[str, Any] | None = None,
    ) -> "RunEvent":
        from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
        from openlineage.client.generated import parent_run
        from openlineage.client.generated.processing_engine_run import ProcessingEngineRunFacet

        run_facets: dict[str, Any] = dict(facets or {})
        run_facets["processing_engine"] = ProcessingEngineRunFacet(version=self.manifest.palimpsest, name=NAMESPACE)
        run_id = self.run_id
        if digest is not None:
            run_id = str(uuid.uuid5(RUN_IDS, digest))
            run_facets["parent"] = parent_run.ParentRunFacet(
                run=parent_run.Run(self.run_id), job=parent_run.Job(NAMESPACE, "run")
            )
        return RunEvent(
            eventTime=self.time,
            producer=PRODUCER,
            eventType=RunState(state),
            run=Run(run_id, facets=run_facets),
            job=Job(NAMESPACE, job),
            inputs=[self._read(path) for path in shards],
            outputs=outputs,
        )

    def _read(self, path: str) -> "InputDataset":
        from openlineage.client.event_v2 import InputDataset
        from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
        from openlineage.client.generated.input_statistics_input_dataset import InputStatisticsInputDatasetFacet

        shard = self.shards[path]
        return InputDataset(
            *_place(shard.uri),
            facets={"version": DatasetVersionDatasetFacet(datasetVersion=shard.digest)},
            inputFacets={"inputStatistics": InputStatisticsInputDatasetFacet(rowCount=shard.rows, size=shard.bytes)},
        )

    def _written(self, path: str, files: Sequence[FileRecord], version: str) -> "OutputDataset":
        from openlineage.client.event_v2 import OutputDataset
        from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
        from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet

        counted = OutputStatisticsOutputDatasetFacet(
            rowCount=sum(file.rows for file in files),
            size=sum(file.bytes for file in files),
            fileCount=len(files),
        )
        return OutputDataset(
            *_place(f"{self.output}/{path}" if path else self.output),
            facets={"version": DatasetVersionDatasetFacet(datasetVersion=version)},
            outputFacets={"outputStatistics": counted},
        )


def _place(uri: str) -> tuple[str, str]:
    """Return OpenLineage's (namespace, name) of a URI: `file` and a path, or `s3://bucket` and a key."""
    parts = urlsplit(uri)
    if not parts.scheme or not parts.netloc:
        return "file", parts.path or uri
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/")
