"""From a reference to files: local folders, and the hub's cache as the client lays it out; no network is there."""

import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest

from pipeline.errors import ModelError
from pipeline.model_files import hub
from pipeline.model_files.folders import folder_sha256, read_files
from pipeline.model_files.references import local_file, resolve_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's, and no way to the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put(cache: Path, model: Path, revision: str = "main") -> None:
    """Lay a model into the cache as the client does: a commit's folder, and a file that says which commit it is."""
    repository = cache / "models--palimpsest--tiny"
    shutil.copytree(model, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / revision).write_text(COMMIT)


def test_a_hub_id_becomes_a_commit_and_its_local_files(tiny: Callable[[str], Path], offline: Path) -> None:
    put(offline, tiny("dit"))
    for reference in ("palimpsest/tiny", "palimpsest/tiny@main", f"palimpsest/tiny@{COMMIT}"):
        found = resolve_model(reference, "/nowhere")
        assert found.uri == f"hub:palimpsest/tiny@{COMMIT}" and found.reference == reference
        assert found.sha256 == folder_sha256(tiny("dit"))
        assert local_file(found) == offline / "models--palimpsest--tiny" / "snapshots" / COMMIT


def test_a_model_that_changed_in_the_cache_is_not_the_planned_one(tiny: Callable[[str], Path], offline: Path) -> None:
    put(offline, tiny("dit"))
    found = resolve_model("palimpsest/tiny", ".")
    (offline / "models--palimpsest--tiny" / "snapshots" / COMMIT / "scheduler" / "scheduler_config.json").write_text(
        "{}"
    )
    with pytest.raises(ModelError, match="are not the planned ones"):
        local_file(found)


def test_a_model_that_is_nowhere_is_one_line(offline: Path, tmp_path: Path) -> None:
    for reference in ("organisation/model", "organisation/model@v2"):
        with pytest.raises(ModelError, match="no such file or folder, and as a hub id it cannot be had") as caught:
            resolve_model(reference, str(tmp_path))
        assert "\n" not in str(caught.value) and reference in str(caught.value)
    for reference in ("models/net.safetensors", "net", "a/b/c"):
        with pytest.raises(ModelError, match=r"there is no such file$"):
            resolve_model(reference, str(tmp_path))


def test_a_local_folder_comes_before_a_hub_id(tiny: Callable[[str], Path], tmp_path: Path, offline: Path) -> None:
    shutil.copytree(tiny("dit"), tmp_path / "palimpsest" / "tiny")
    found = resolve_model("palimpsest/tiny", str(tmp_path))
    assert found.uri == str((tmp_path / "palimpsest" / "tiny").resolve()) and local_file(found).is_dir()
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    with pytest.raises(ModelError, match="no diffusers model"):
        resolve_model("empty/folder", str(tmp_path))


@pytest.mark.parametrize("kind", ["dit", "pixel", "control"])
def test_every_kind_of_folder_has_an_identity(kind: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    found = resolve_model(str(tiny(kind)), ".")
    copy = shutil.copytree(tiny(kind), tmp_path / "copy")
    assert folder_sha256(copy) == found.sha256
    (copy / "pickle.bin").write_bytes(b"never read")
    (copy / "code.py").write_text("never run")
    assert folder_sha256(copy) == found.sha256
    (copy / "config.json").write_text("{}")
    with pytest.raises(ModelError) if kind == "control" else pytest.MonkeyPatch.context():
        assert folder_sha256(copy) != found.sha256


def test_only_what_a_model_reads_is_fetched() -> None:
    names = [
        ".gitattributes", ".cache/a.json", "README.md", "model_index.json", "v1-5.safetensors", "v1-5.ckpt",
        "unet/config.json", "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors", "unet/model.safetensors.index.fp16.json",
        "tokenizer/merges.txt", "pipeline.py",
    ]  # fmt: skip
    assert read_files(names) == [
        "model_index.json", "tokenizer/merges.txt", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    assert read_files(["config.json", "diffusion_pytorch_model.safetensors"]) == [
        "config.json", "diffusion_pytorch_model.safetensors",
    ]  # fmt: skip


def test_what_reads_as_a_hub_id() -> None:
    assert all(hub.is_hub_id(each) for each in ("a/b", "org/sd-1.5", "org/model@refs/pr/1", f"a/b@{COMMIT}"))
    assert not any(hub.is_hub_id(each) for each in ("a", "a/b/c", "./a/b", "../b", "a/b@", "s3://a/b", "/a/b", "a/.b"))
