"""The Grafana dashboard shows every metric that the code defines, and no other; `deploy/validate.sh` has its schema."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from pipeline.monitoring.metrics import METRICS

FILE = Path(__file__).resolve().parent.parent.parent / "deploy/grafana/palimpsest.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


def series(text: str) -> set[str]:
    return set(re.findall(r"\bray_palimpsest_\w+", text))


def shown() -> dict[str, set[str]]:
    """Return the series of each panel's expressions, by its title."""
    return {panel["title"]: {name for t in panel["targets"] for name in series(t["expr"])} for panel in PANELS}


def test_every_panel_shows_metrics_that_the_code_defines() -> None:
    defined = {metric.series for metric in METRICS}
    defined |= {metric.series.replace("_bucket", "_sum") for metric in METRICS if metric.kind == "histogram"}
    for title, names in shown().items():
        assert names and names <= defined, title


def test_every_metric_is_on_a_panel() -> None:
    on_panels = set().union(*shown().values())
    assert {metric.series for metric in METRICS} <= on_panels


def test_expressions_use_labels_that_their_metrics_have() -> None:
    labels = {metric.series: {*metric.labels, "SessionName"} for metric in METRICS}
    for panel in PANELS:
        for target in panel["targets"]:
            known = {"le"}.union(
                *(labels.get(name.replace("_sum", "_bucket"), set()) for name in series(target["expr"]))
            )
            used = {label for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(", ")}
            used |= set(re.findall(r"(\w+)=~", target["expr"])) | set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert used <= known, target["expr"]


def test_rates_are_of_counters_and_values_of_gauges() -> None:
    kinds = {metric.series: metric.kind for metric in METRICS}
    for panel in PANELS:
        for target in panel["targets"]:
            rated = set(re.findall(r"rate\((\w+)", target["expr"]))
            assert not {name for name in rated if kinds.get(name) == "gauge"}, target["expr"]


def test_variables_are_defined_and_of_metrics_that_are() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS))) - {"__rate_interval"}
    assert used == {"datasource", "session", "branch"} == set(variables)
    named = series(json.dumps(list(variables.values())))
    assert named and named <= {metric.series for metric in METRICS}


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
        assert one["x"] + one["w"] <= 24


def test_it_says_what_was_validated_and_that_it_was_never_loaded() -> None:
    assert "deploy/validate.sh" in DASHBOARD["description"] and "never loaded in a Grafana" in DASHBOARD["description"]
