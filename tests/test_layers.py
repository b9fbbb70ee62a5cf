"""DESIGN.md's picture, read from the imports: an arrow is an import, and nothing points up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tagfleet"
SHARED = {"errors", "schemas", "config"}
MAY_IMPORT = {
    "errors": set(),
    "config": {"errors"},
    "schemas": {"errors"},
    "catalog": SHARED,
    "labels": SHARED | {"catalog"},
    "audio": SHARED | {"catalog"},
    "model": SHARED | {"catalog", "labels", "audio"},
    "store": SHARED | {"catalog"},
    "report": SHARED | {"catalog", "labels", "model"},
    "fleet": SHARED | {"catalog", "labels", "audio", "model", "store", "report"},
    "settings": {"config", "errors", "labels", "audio", "model", "store", "fleet"},
    "job": SHARED | {"fleet", "settings", "store"},
    "submit": SHARED | {"store", "fleet", "settings"},
    "demo": SHARED | {"catalog", "labels", "audio", "model", "store", "fleet", "settings"},
    "cli": SHARED | {"catalog", "labels", "audio", "model", "store", "report", "fleet", "settings", "demo", "submit"},
}
ONLY_IN = {
    "ray": {"fleet", "submit"},
    "boto3": {"store"},
    "botocore": {"store"},
    "deltalake": {"store"},
    "duckdb": {"store"},
    "typer": {"cli"},
    "rich": {"cli"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "sklearn": {"model"},
    "scipy": {"model"},
    "tensorboardX": {"fleet"},
    "mlflow": {"fleet"},
    "torch": {"audio", "model", "fleet"},
    "safetensors": {"model", "fleet"},
    "optuna": {"fleet"},
    "openvino": {"model"},
    "kubernetes": {"submit"},
    "yaml": {"submit"},
    "pathspec": {"submit"},
    "av": {"audio", "demo"},
    "soxr": {"audio"},
    "fugashi": {"labels"},
    "unidic_lite": {"labels"},
    "ahocorasick_rs": {"labels"},
}
TORCHAUDIO = "audio/logmel.py"


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "tagfleet")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_hold_the_picture(path):
    relative = path.relative_to(PACKAGE)
    layer = relative.parts[0].removesuffix(".py")
    if layer in ("__init__", "__main__"):
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "tagfleet" and len(parts) > 1 and parts[1] not in ("__version__", layer):
            assert parts[1] in MAY_IMPORT[layer], f"{relative} imports {name}: {layer} may not see {parts[1]}"
        if parts[0] in ONLY_IN:
            assert layer in ONLY_IN[parts[0]], f"{relative} imports {name}: only {ONLY_IN[parts[0]]} may"
        if parts[0] == "torchaudio":
            assert str(relative) == TORCHAUDIO, f"{relative} imports torchaudio: only {TORCHAUDIO} may"


@pytest.mark.parametrize("path", sorted((PACKAGE.parent / "jobs").glob("*.py")), ids=lambda path: path.name)
def test_a_job_sees_the_library_and_no_command_line(path):
    for name in imports(path):
        assert name.split(".")[:2] != ["tagfleet", "cli"], f"{path.name} imports {name}"
        assert name.split(".")[0] not in ONLY_IN, f"{path.name} imports {name}"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60


def test_every_layer_is_in_the_picture():
    layers = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} - {"__init__", "__main__"}
    assert layers == set(MAY_IMPORT)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["retag"],
        ["train"],
        ["tune"],
        ["evaluate"],
        ["report"],
        ["models", "promote"],
        ["predictions", "query"],
        ["catalog", "scan"],
        ["demo"],
        ["labels", "mine"],
        ["submit", "train"],
        ["submit", "retag"],
        ["jobs", "list"],
        ["doctor"],
    ],
)
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys; from tagfleet.cli.main import exit_code\n"
        f"assert exit_code({[*command, '--help']!r}) == 0\n"
        "heavy = {'torch', 'ray', 'pyarrow', 'numpy', 'duckdb', 'boto3', 'fugashi', 'ahocorasick_rs'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "Usage: tagfleet" in done.stdout
