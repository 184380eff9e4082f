import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from pipeline.watermark_key import key_id, key_out_of_environment, new_key_file, read_key


def test_a_key_comes_from_the_file_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PALIMPSEST_KEY", raising=False)
    assert read_key(None) is None
    monkeypatch.setenv("PALIMPSEST_KEY", "sixteen bytes or more")
    assert read_key(None) == b"sixteen bytes or more"
    (tmp_path / "k").write_bytes(bytes(range(16)))
    assert read_key(str(tmp_path / "k")) == bytes(range(16))


def test_a_short_key_is_refused_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_KEY", "secret")
    with pytest.raises(RecipeError, match="PALIMPSEST_KEY") as raised:
        read_key(None)
    assert "secret" not in str(raised.value)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_key(str(tmp_path / "none"))
    monkeypatch.setenv("PALIMPSEST_KEY", "")
    with pytest.raises(RecipeError):
        read_key(None)


def test_a_fresh_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = new_key_file(tmp_path / "deep" / "a.key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = read_key(str(path))
    assert key is not None and len(key) == 64
    with pytest.raises(RecipeError, match="exists"):
        new_key_file(path)
    assert new_key_file(tmp_path / "b.key").read_bytes() != key


def test_the_public_id_is_short_and_stable() -> None:
    assert key_id(b"a" * 16) == key_id(b"a" * 16) != key_id(b"b" * 16)
    assert len(key_id(b"a" * 16)) == 16
    assert (b"a" * 16).hex() not in key_id(b"a" * 16)


def test_a_key_out_of_the_environment_is_known_and_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_KEY", "sixteen bytes or more")
    code = "import os; print(os.environ.get('PALIMPSEST_KEY'))"
    with key_out_of_environment(), key_out_of_environment():
        assert read_key() == b"sixteen bytes or more"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "None\n"
    assert os.environ["PALIMPSEST_KEY"] == "sixteen bytes or more"
    monkeypatch.delenv("PALIMPSEST_KEY")
    assert read_key() is None
    with key_out_of_environment():
        assert read_key() is None
    assert "PALIMPSEST_KEY" not in os.environ
