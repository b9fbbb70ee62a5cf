import pytest

from tagfleet.fleet.recovery import SIZES_FILE, SNAPSHOT_FILE, fetch, forget_broken_list, newest_whole, write_sizes
from tagfleet.store.objects import Storage

LIST = f"runs/r/checkpoints/{SNAPSHOT_FILE}"


@pytest.fixture
def root(tmp_path):
    """A run with two whole checkpoints."""
    root = Storage(str(tmp_path / "root"))
    for name in ("checkpoint_1", "checkpoint_2"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "weights").write_bytes(name.encode())
        (folder / "state.json").write_text("{}")
        write_sizes(folder)
        for path in folder.iterdir():
            root.write(f"runs/r/checkpoints/{name}/{path.name}", path.read_bytes())
    root.write(LIST, b"{}")
    return root


def test_a_list_that_can_be_read_is_left_to_ray(root):
    assert forget_broken_list(root, "r") == "" and root.exists(LIST)
    assert forget_broken_list(root, "never") == ""


@pytest.mark.parametrize("rest", [b"", b'{"a": [1,', b"[]", b"\xff"])
def test_a_broken_list_is_forgotten_and_the_newest_whole_checkpoint_found(root, rest, tmp_path):
    root.write(LIST, rest)
    found = forget_broken_list(root, "r")
    assert found == "runs/r/checkpoints/checkpoint_2" and not root.exists(LIST)
    folder = tmp_path / "fetched"
    folder.mkdir()
    fetch(root, found, folder)
    assert (folder / "weights").read_bytes() == b"checkpoint_2"


@pytest.mark.parametrize(("name", "data"), [("weights", b"check"), ("state.json", b""), (SIZES_FILE, b"{")])
def test_a_checkpoint_that_was_cut_off_is_passed_over(root, name, data):
    root.write(f"runs/r/checkpoints/checkpoint_2/{name}", data)
    assert newest_whole(root, "r") == "runs/r/checkpoints/checkpoint_1"
    root.delete("runs/r/checkpoints/checkpoint_1/state.json")
    assert newest_whole(root, "r") == ""
