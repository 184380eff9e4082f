"""`openlineage.jsonl`: one OpenLineage 2.0 event for each branch, one for each failed unit, and one for the run.

Run ids are functions of the plan and unit digests, so a run that is published twice has the same id.
"""

import datetime
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from schemas.manifest import Failure, Manifest

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

NAMESPACE = "palimpsest"
RUN_IDS = uuid.uuid5(uuid.NAMESPACE_DNS, NAMESPACE)
PRODUCER = "urn:palimpsest"


class Written(Protocol):
    """Rows, bytes and number of some files."""

    rows: int
    bytes: int
    files: int


def openlineage_lines(
    manifest: Manifest, written: Mapping[str, Written], failures: Sequence[Failure], output: str
) -> Iterator[str]:
    """Yield JSON lines: every branch, every failed unit, then the run. The time of all events is that of this call.

    Args:
        written: the files of each branch.
        output: URI or absolute path of the data set.
    """
    from openlineage.client.serde import Serde

    events = _RunEvents(manifest, output)
    for chain in manifest.chains:
        yield Serde.to_json(events.branch(chain, written.get(chain["name"])))
    for failure in failures:
        yield Serde.to_json(events.failed(failure))
    yield Serde.to_json(events.run([*written.values()]))


def load_client() -> None:
    """Import OpenLineage's client, which takes a fifth of a second."""
    import openlineage.client.event_v2
    import openlineage.client.serde  # noqa: F401 - only loaded


class _RunEvents:
    """Makes the events of one run, which share its time and id."""

    def __init__(self, manifest: Manifest, output: str) -> None:
        self.manifest, self.output = manifest, output.rstrip("/")
        self.time = datetime.datetime.now(datetime.UTC).isoformat()
        self.run_id = str(uuid.uuid5(RUN_IDS, manifest.plan_digest))
        self.shards = {shard.path: shard for shard in manifest.shards}
        self.state = "COMPLETE" if manifest.complete else "FAIL" if manifest.failed else "ABORT"

    def branch(self, chain: Mapping[str, Any], written: Written | None) -> "RunEvent":
        name = chain["name"]
        digest = f"{self.manifest.plan_digest}/{name}"
        outputs = [] if written is None else [self._written("", [written], self.manifest.commits.sha256)]
        return self._event(self.state, digest, name, list(self.shards) if chain["copies"] else [], outputs)

    def failed(self, failure: Failure) -> "RunEvent":
        from openlineage.client.generated.error_message_run import ErrorMessageRunFacet

        facet = ErrorMessageRunFacet(message=failure.error, programmingLanguage="python")
        return self._event("FAIL", failure.digest, failure.unit, [], [], {"errorMessage": facet})

    def run(self, written: Sequence[Written]) -> "RunEvent":
        outputs = [self._written("", written, self.manifest.commits.sha256)]
        return self._event(self.state, None, "run", list(self.shards), outputs)

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

    def _written(self, path: str, written: Sequence[Written], version: str) -> "OutputDataset":
        from openlineage.client.event_v2 import OutputDataset
        from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
        from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet

        counted = OutputStatisticsOutputDatasetFacet(
            rowCount=sum(each.rows for each in written),
            size=sum(each.bytes for each in written),
            fileCount=sum(each.files for each in written),
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
