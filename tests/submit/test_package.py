import os
import zipfile

import pytest

from tagfleet.errors import ConfigError
from tagfleet.submit import package as module
from tagfleet.submit.package import checkout, package


def make(folder, excludes='["/*", "!/tagfleet/", "__pycache__/", ".env*"]'):
    (folder / "cluster").mkdir(parents=True)
    (folder / "cluster" / "runtime_env.yaml").write_text(f"working_dir: .\nexcludes: {excludes}\n")
    for name in (
        "tagfleet/a.py",
        "tagfleet/曲 #1.py",
        "tagfleet/__pycache__/a.pyc",
        "tagfleet/.env",
        "demo/big.wav",
        "x",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_code_is_sent_and_nothing_else(tmp_path):
    make(tmp_path)
    (tmp_path / "tagfleet" / "out").symlink_to(tmp_path / "x")
    made = package(tmp_path)
    assert sorted(map(str, made.files)) == ["tagfleet/a.py", "tagfleet/曲 #1.py"]
    with zipfile.ZipFile(made.write(tmp_path / "p.zip")) as zipped:
        assert sorted(zipped.namelist()) == ["tagfleet/a.py", "tagfleet/曲 #1.py"]
        assert zipped.read("tagfleet/a.py") == b"tagfleet/a.py"


def test_the_same_code_is_the_same_bytes(tmp_path):
    make(tmp_path)
    first = package(tmp_path).write(tmp_path / "1.zip").read_bytes()
    os.utime(tmp_path / "tagfleet" / "a.py", (1, 1))
    assert package(tmp_path).write(tmp_path / "2.zip").read_bytes() == first


def test_too_much_is_refused_with_what_is_large(tmp_path, monkeypatch):
    make(tmp_path)
    (tmp_path / "tagfleet" / "model.bin").write_bytes(bytes(3 << 20))
    monkeypatch.setattr(module, "MAX_MB", 2)
    with pytest.raises(ConfigError, match=r"3\.0 MiB, more than 2 MiB; largest: tagfleet/model.bin 3\.0 MiB") as caught:
        package(tmp_path)
    assert "runtime_env.yaml" in caught.value.hint


@pytest.mark.parametrize("excludes", ["3", "[[", "null"])
def test_a_file_that_is_none_is_refused(tmp_path, excludes):
    make(tmp_path, excludes)
    with pytest.raises(ConfigError, match=r"runtime_env\.yaml is not readable"):
        package(tmp_path)


def test_this_checkout_sends_its_library_its_jobs_and_no_data():
    made = package(checkout())
    assert {path.parts[0] for path in made.files} == {"tagfleet", "jobs"}
    assert made.n_bytes < 3 << 20
