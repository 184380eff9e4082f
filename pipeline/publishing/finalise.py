"""After the units: merge the commit log, write the manifest, the card and the files for other tools, clean up."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.execution.fit import fitted_artifacts
from pipeline.execution.row_failures import FOLDER, drop_row_failures
from pipeline.lineage.card import dataset_card
from pipeline.lineage.croissant import croissant_json
from pipeline.lineage.openlineage import openlineage_lines
from pipeline.plan import Plan
from pipeline.publishing.log_state import LogState, read_state
from pipeline.publishing.manifest import MANIFEST, build_manifest, manifest_json
from pipeline.publishing.output_checks import check_others
from pipeline.publishing.recovery import check_leftovers, recover_units
from pipeline.publishing.seal import SealedLog
from pipeline.shards.output.commit_log import CommitLog, tell_nobody
from pipeline.shards.output.data_files import DataFiles
from pipeline.shards.output.store import Store
from schemas.manifest import Failure, Manifest, PrunedShard

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """The manifest that was written, and the log that it describes.

    Merged segments are still there: `log.remove_merged` is for after the seal.
    """

    manifest: Manifest
    log: CommitLog


def finalise(
    plan: Plan, store: Store, run: int, pruned: Sequence[PrunedShard] = (), sealed: SealedLog | None = None
) -> Published:
    """Publish what is there; the data set is complete if every planned unit is.

    Files that no record names are removed before the manifest is written, so that whoever reads the files of a complete
    data set without its log finds every image once. Merged segments stay: the last seal names them.

    Args:
        run: number of this run.
        pruned: what this run and earlier ones removed.
        sealed: segments of the last seal; those that contradict it stay as they are, for `verify` to name.

    Raises:
        ConflictError: a file lies in `data/`, `rejected/` or `quarantine/` that no record names, or units are there
            that the plan does not make.
    """
    log = CommitLog(store)
    state = read_state(plan, log, DataFiles(store))
    check_others(plan, store, state, pruned)
    check_leftovers(plan, state)
    announce = sealed.announce if sealed else tell_nobody
    recovered = recover_units(plan, store, state, run, made_in=run, announce=announce)
    log = CommitLog(store) if recovered.replaced else log.with_segments(recovered.segments)
    for name, what in state.damaged.items():
        _log.warning("unit %s: %s; the same command makes it again", name, what)
    gone = [*state.damaged, *(name for each in state.others.values() for name in each.names)]
    log = log.merge(gone, sealed.suspicious(log) if sealed else (), announce)
    kinds = ((branch, code) for branch, sums in state.sums.items() for code in sums.quarantine_reasons)
    drop_row_failures(store, kinds)
    failures = _failures(plan, store, state)
    failed = sorted({failure.unit for failure in failures} | {*state.damaged})
    manifest = build_manifest(plan, state, log, run, failed, fitted_artifacts(plan, store), pruned)
    store.write("README.md", dataset_card(manifest).encode())
    with store.stage() as folder:
        staged = folder / "croissant.json"
        with store.raising_storage_errors(), staged.open("w") as file:
            files = (each for table in log.scan(["data_file"]) for each in table.column(0).to_pylist() if each)
            file.writelines(croissant_json(manifest, files))
        store.publish(staged, "croissant.json")
    lines = openlineage_lines(manifest, state.written, failures, plan.output)
    store.write("openlineage.jsonl", "".join(f"{line}\n" for line in lines).encode())
    store.tidy()
    store.remove_many([*state.leftovers, *(path for each in state.others.values() for path in each.files)])
    store.write(MANIFEST, manifest_json(manifest))
    return Published(manifest, log)


def _failures(plan: Plan, store: Store, state: LogState) -> list[Failure]:
    """Return the failures of units that are still missing, by name and digest, and remove all other failures.

    The others were made since, or belong to another plan. Files that are no failures are kept.
    """
    found: list[tuple[str, Failure]] = []
    for path in store.list("_failed"):
        if path.startswith(f"{FOLDER}/"):
            continue
        with contextlib.suppress(FileNotFoundError, ValueError):
            found.append((path, Failure.model_validate_json(store.read(path))))
    wanted = {failure.unit for _, failure in found}
    missing = {
        name: plan.units[index].digest
        for index, name in (enumerate(plan.units.names()) if wanted else ())
        if name in wanted and not state.done[index]
    }
    store.remove_many([path for path, failure in found if missing.get(failure.unit) != failure.digest])
    return [failure for _, failure in found if missing.get(failure.unit) == failure.digest]
