"""RayJob and Dockerfile: fields that KubeRay knows, versions of the lock file, and no key where others can read it."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cli import parser
from pipeline import __version__
from pipeline.planning.recipe_file import load_recipe

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
JOB, *OTHERS = yaml.safe_load_all((DEPLOY / "rayjob.yaml").read_text())
SPEC: dict[str, Any] = JOB["spec"]
CLUSTER: dict[str, Any] = SPEC["rayClusterSpec"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()

JOB_FIELDS = {
    "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata", "clusterSelector",
    "submitterConfig", "managedBy", "deletionStrategy", "entrypoint", "runtimeEnvYAML", "jobId", "submissionMode",
    "entrypointResources", "entrypointNumCpus", "entrypointNumGpus", "ttlSecondsAfterFinished",
    "shutdownAfterJobFinishes", "suspend",
}  # fmt: skip
CLUSTER_FIELDS = {
    "headGroupSpec", "workerGroupSpecs", "rayVersion", "enableInTreeAutoscaling", "autoscalerOptions",
    "headServiceAnnotations", "suspend", "authOptions",
}  # fmt: skip
AUTOSCALER_FIELDS = {
    "resources", "image", "imagePullPolicy", "env", "envFrom", "volumeMounts", "securityContext",
    "idleTimeoutSeconds", "upscalingMode",
}  # fmt: skip
HEAD_FIELDS = {"serviceType", "headService", "enableIngress", "rayStartParams", "template"}
WORKER_FIELDS = {
    "groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams", "template", "scaleStrategy",
}  # fmt: skip
"""Fields of KubeRay's v1 types, as its repository has them."""


def templates() -> dict[str, dict[str, Any]]:
    workers = {group["groupName"]: group["template"] for group in CLUSTER["workerGroupSpecs"]}
    return {"submitter": SPEC["submitterPodTemplate"], "head": CLUSTER["headGroupSpec"]["template"], **workers}


def locked(name: str) -> str:
    found = re.search(rf"^{name}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_fields_are_those_of_kuberay() -> None:
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    assert set(SPEC) <= JOB_FIELDS
    assert set(CLUSTER) <= CLUSTER_FIELDS
    assert set(CLUSTER["autoscalerOptions"]) <= AUTOSCALER_FIELDS
    assert set(CLUSTER["headGroupSpec"]) <= HEAD_FIELDS
    for group in CLUSTER["workerGroupSpecs"]:
        assert set(group) <= WORKER_FIELDS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_versions_are_those_of_the_lock_file() -> None:
    assert CLUSTER["rayVersion"] == locked("ray")
    images = {container["image"] for pod in templates().values() for container in pod["spec"]["containers"]}
    assert images == {f"palimpsest:{__version__}"}
    assert f"docker build -f deploy/Dockerfile -t palimpsest:{__version__} ." in DOCKERFILE
    assert "COPY requirements.lock" in DOCKERFILE and "--require-hashes --requirement requirements.lock" in DOCKERFILE
    python = re.search(r"^FROM python:(\d+\.\d+)-slim$", DOCKERFILE, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert python and f">={python[1]}" == project["requires-python"]


def test_the_entrypoint_is_a_command_and_its_recipe_a_recipe(tmp_path: Path) -> None:
    program, *arguments = shlex.split(SPEC["entrypoint"])
    options = parser().parse_args(arguments)
    assert (program, options.address, options.log_json) == ("palimpsest", "auto", True)
    (config,) = (record for record in OTHERS if record["kind"] == "ConfigMap")
    mounts = {mount["name"]: mount["mountPath"] for mount in head_container()["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in templates()["head"]["spec"]["volumes"]}
    assert volumes["recipe"]["configMap"]["name"] == config["metadata"]["name"]
    assert options.recipe == f"{mounts['recipe']}/recipe.yaml"
    assert options.key_file == f"{mounts['key']}/key"
    (tmp_path / "recipe.yaml").write_text(config["data"]["recipe.yaml"])
    recipe, _ = load_recipe(str(tmp_path / "recipe.yaml"))
    assert recipe.output.uri.startswith("s3://")


def head_container() -> dict[str, Any]:
    (container,) = templates()["head"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def test_the_key_is_a_file_of_the_head_alone() -> None:
    secrets = {name: [v for v in pod["spec"].get("volumes", ()) if "secret" in v] for name, pod in templates().items()}
    assert {name for name, found in secrets.items() if found} == {"head"}
    (key,) = secrets["head"]
    assert key["secret"]["defaultMode"] == 0o440
    assert templates()["head"]["spec"]["securityContext"]["fsGroup"] == 1000, "who may read it"
    text = yaml.safe_dump([JOB, *OTHERS])
    assert "PALIMPSEST_KEY" not in text and "runtimeEnvYAML" not in text


@pytest.mark.parametrize("name", sorted(templates()))
def test_pods_run_as_nobody_special_and_are_the_policys(name: str) -> None:
    pod = templates()[name]
    context = pod["spec"]["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] == 1000
    (policy,) = (record["spec"] for record in OTHERS if record["kind"] == "NetworkPolicy")
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    if name != "submitter":
        assert pod["spec"]["terminationGracePeriodSeconds"] >= 60


def test_a_stopped_job_has_time_to_publish_and_a_lost_one_goes_on() -> None:
    variables = {each["name"]: each["value"] for each in head_container()["env"]}
    wait = int(variables["RAY_JOB_STOP_WAIT_TIME_S"])
    assert 3 < wait < templates()["head"]["spec"]["terminationGracePeriodSeconds"]
    assert SPEC["backoffLimit"] >= 1
    assert CLUSTER["authOptions"] == {"mode": "token"}


def test_the_image_holds_no_key_and_runs_as_a_user() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*", "nothing but what is let in"
    assert "**/*.key" in ignored
    copied = {word for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]}
    assert copied == {name[1:] for name in ignored if name.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    lines = DOCKERFILE.splitlines()
    assert lines.index("USER 1000") > max(at for at, line in enumerate(lines) if line.startswith("RUN"))


@pytest.mark.parametrize("name", ["Dockerfile", "rayjob.yaml"])
def test_each_says_what_was_validated_and_that_it_was_never_launched(name: str) -> None:
    head = " ".join((DEPLOY / name).read_text().split("\n\n")[0].replace("#", " ").split())
    assert re.search(r"Validated on 20\d\d-\d\d-\d\d.*ever launched", head)
