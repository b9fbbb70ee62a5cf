"""The image's install steps, run into an empty prefix; what they made is started as a container would start it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

import tagfleet

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "cluster/constraints.txt").read_text("utf-8")
NEVER = (
    "pytest",
    "mypy",
    "moto",
    "playwright",
    "librosa",
    "hatchling",
    "uv",
    "pip",
    "triton",
    "cuda",
    "nvidia.cusolver",
)

# A container with a read-only root: everything but one folder of this machine, as a process of its own mounts sees it.
READ_ONLY = 'mount --make-rprivate / && mount -t tmpfs none "$0" && mount -o remount,bind,ro / && exec "$@"'


def install(source, *steps, **environment):
    """The script of `source`, without bytecode: compiling takes a minute."""
    return subprocess.run(
        ["bash", source / "cluster/install.sh", *steps],
        env=os.environ | {"PYTHON": sys.executable, "BYTECODE": "0"} | environment,
        capture_output=True,
        text=True,
        check=False,
        umask=0o077,
    )


@pytest.fixture(scope="module")
def prefix():
    """The CPU variant, without an engine; not in `tmp_path`, which keeps the gigabytes of three runs."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        run = install(ROOT, "packages", "code", PREFIX=folder, VARIANT="cpu")
        assert run.returncode == 0, run.stderr
        yield Path(folder)


def contained(prefix, scratch, *command):
    """What `command` prints, in the image's environment but for bytecode: what one test compiles spares the next."""
    environment = {
        "PATH": f"{prefix}/.venv/bin:/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "XDG_CONFIG_HOME": "/etc",
        "TORCH_LOGS": "-torch.utils.flop_counter",
    }
    return subprocess.run(command, env=environment, cwd=prefix, capture_output=True, text=True, check=False)


def test_the_programs_are_on_the_path(prefix, tmp_path):
    ray = re.search(r"^ray==(\S+)", LOCK, re.MULTILINE)[1]
    assert contained(prefix, tmp_path, "tagfleet", "--version").stdout == f"tagfleet {tagfleet.__version__}\n"
    assert contained(prefix, tmp_path, "ray", "--version").stdout == f"ray, version {ray}\n"


def test_the_extras_are_there_and_the_tools_are_not(prefix, tmp_path):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    there = {"tune": "optuna", "mlflow": "mlflow", "k8s": "kubernetes"}
    wanted = ["jobs.train", *(module for extra, module in there.items() if extra in extras)]
    find = "import sys, importlib.util as u; print(*[n for n in sys.argv[1:] if u.find_spec(n)])"
    assert contained(prefix, tmp_path, "python", "-c", find, *wanted, *NEVER).stdout.split() == wanted


def test_a_cpu_worker_needs_nothing_that_was_left_out(prefix, tmp_path):
    run = contained(prefix, tmp_path, "python", ROOT / "tests/cluster/cpu_path.py")
    assert run.returncode == 0, run.stderr
    assert "triton" not in run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["finite"] and told["shape"] == [2, 3] and told["duration_s"] == pytest.approx(10)
    assert told["n_cuda_libraries"] > 10
    assert told["from_elsewhere"] == []


def test_the_root_file_system_may_be_read_only(prefix, tmp_path):
    command = ["unshare", "-m", "sh", "-c", READ_ONLY, str(tmp_path)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    assert contained(prefix, tmp_path, *command, "touch", prefix / "a").returncode != 0
    run = contained(prefix, tmp_path, *command, "tagfleet", "config", "show")
    assert run.returncode == 0, run.stderr


def test_another_user_reads_all_of_it_and_changes_nothing(prefix):
    """Installed under umask 077, as on a careful person's machine: one unreadable package, and no Ray starts."""
    for path in (prefix / part for part in (".venv", "tagfleet", "jobs", "cluster")):
        there = [each for each in (path, *path.rglob("*")) if not each.is_symlink()]
        assert there
        assert not [each for each in there if each.stat().st_mode & 0o044 != 0o044]
        assert not [each for each in there if each.is_dir() and each.stat().st_mode & 0o011 != 0o011]
        assert not [each for each in there if each.stat().st_mode & 0o022]


@pytest.fixture
def small(tmp_path):
    """A tagfleet that needs one small package: its sources, and where to install it."""
    source = tmp_path / "source"
    (source / "cluster").mkdir(parents=True)
    shutil.copy(ROOT / "cluster/install.sh", source / "cluster")
    (source / "cluster/constraints.txt").write_text(LOCK, "utf-8")
    (source / "README.md").write_text("", "utf-8")
    whole = (ROOT / "pyproject.toml").read_text("utf-8")
    text, n = re.subn(r"(?ms)^dependencies = \[.*?^\]", 'dependencies = ["tomli-w>=1.2,<2"]', whole)
    text, m = re.subn(r"(?ms)^(\w+) = \[\n    \"[\w\-]+.*?^\]", r"\1 = []", text)
    assert n == 1 and m > 1
    (source / "pyproject.toml").write_text(text, "utf-8")
    return source


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (r"(?s)(\ntomli-w==.*?sha256:).*?\n(?=\w)", r"\g<1>" + "0" * 64 + "\n", "Hash mismatch"),
        (r"(?s)\ntomli-w==.*?\n(?=\w)", "\n", "Hash-checking is required"),
        (r"(?s)\nhatchling==.*?\n(?=\w)", "\n", "hatchling"),
    ],
    ids=["another hash", "not in the lock", "a tool not in the lock"],
)
def test_what_the_lock_does_not_vouch_for_is_refused(small, tmp_path, old, new, complaint):
    text, n = re.subn(old, new, LOCK, count=1)
    assert n == 1
    (small / "cluster/constraints.txt").write_text(text, "utf-8")
    run = install(small, "packages", PREFIX=str(tmp_path / "p"), VARIANT="cuda")
    assert run.returncode != 0
    assert complaint in run.stderr


def test_a_pattern_that_matches_nothing_any_more_is_noticed(small, tmp_path):
    """What comes before it, in `packages`, went well: so the test above has its mistakes from the lock alone."""
    run = install(small, "packages", PREFIX=str(tmp_path / "p"), VARIANT="cpu")
    assert run.returncode != 0
    assert "libcudnn_*" in run.stderr


@pytest.mark.parametrize(
    ("steps", "variant", "complaint"),
    [(("packages",), "rocm", "say cpu or cuda"), ((), "cpu", "say what to install"), (("all",), "cpu", "is no step")],
)
def test_what_was_not_understood_is_said(steps, variant, complaint, tmp_path):
    run = install(ROOT, *steps, PREFIX=str(tmp_path / "p"), VARIANT=variant)
    assert run.returncode == 1
    assert complaint in run.stderr
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(("name", "code"), [("sleep", 0), ("raylet", 1)])
def test_a_container_is_well_unless_its_raylet_is_silent(name, code, tmp_path):
    """In a container's own view of processes and ports: a job's program, then a raylet that does not answer."""
    container = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*container, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces are not allowed here")
    program = shutil.copy(shutil.which("sleep"), tmp_path / name)
    run = f'"{program}" 60 & sleep 0.5; bash "{ROOT}/cluster/healthy.sh"; code=$?; kill $!; exit $code'
    assert subprocess.run([*container, "bash", "-c", run], check=False).returncode == code
