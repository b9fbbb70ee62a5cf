"""The code that is sent where the cluster has another one: tagfleet/ and jobs/ of this checkout, as one small zip."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from tagfleet.errors import ConfigError, UsageError

RUNTIME_ENV = Path("cluster") / "runtime_env.yaml"
MAX_MB = 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Package:
    """What would be sent."""

    folder: Path
    files: tuple[Path, ...]
    """Relative to the folder, sorted."""
    n_bytes: int

    def write(self, target: Path) -> Path:
        """As a zip that is the same for the same files, so that Ray does not take it twice."""
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name in self.files:
                entry = zipfile.ZipInfo(name.as_posix(), _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                zipped.writestr(entry, (self.folder / name).read_bytes())
        return target


def checkout() -> Path:
    """The checkout that this tagfleet runs from. UsageError when it was installed without one."""
    folder = Path(__file__).parents[2]
    if not (folder / RUNTIME_ENV).is_file():
        raise UsageError(
            "the cluster has another tagfleet, and this one is not a checkout that could be sent",
            hint="use an image of this version, or call tagfleet from a checkout",
        )
    return folder


def package(folder: Path) -> Package:
    """The files below `folder` that its cluster/runtime_env.yaml does not exclude (as in a .gitignore).

    Raises ConfigError when the file is none, or when it all is larger than 20 MiB: code is not.
    """
    import yaml
    from pathspec import GitIgnoreSpec

    try:
        described = yaml.safe_load((folder / RUNTIME_ENV).read_text(encoding="utf-8"))
        excludes = GitIgnoreSpec.from_lines(described["excludes"])
    except (OSError, KeyError, TypeError, yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{RUNTIME_ENV} is not readable: {error}", hint="it needs a list `excludes`") from error
    names = sorted(Path(name) for name in excludes.match_tree_files(folder, negate=True))
    files = tuple(name for name in names if not (folder / name).is_symlink())
    sizes = {name: (folder / name).stat().st_size for name in files}
    n_bytes = sum(sizes.values())
    if n_bytes > MAX_MB << 20:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        told = ", ".join(f"{name} {sizes[name] / (1 << 20):.1f} MiB" for name in largest)
        raise ConfigError(
            f"the working directory is {n_bytes / (1 << 20):.1f} MiB, more than {MAX_MB} MiB; largest: {told}",
            hint=f"exclude what is no code in {RUNTIME_ENV}; audio and models belong in the storage root",
        )
    return Package(folder=folder, files=files, n_bytes=n_bytes)
