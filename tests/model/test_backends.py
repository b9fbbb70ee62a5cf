import importlib.util
import os
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch

from tagfleet.errors import ConfigError
from tagfleet.fleet.taggers import load_tagger
from tagfleet.model.backends import with_backend
from tagfleet.model.calibration import Calibration
from tagfleet.model.config import Backend, NetworkConfig
from tagfleet.model.network import for_inference
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tests.model.taggers import SMALL, TAXONOMY, random_net, random_tagger

BACKENDS = get_args(Backend)
CPU_ONLY = ("openvino", "openvino-bf16")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed (the extra openvino)"
)
PRESETS = [
    NetworkConfig(width=8, n_blocks=4, pooling="mean"),
    NetworkConfig(preset="fcn", width=8, pooling="mean+max"),
    NetworkConfig(preset="conv11", width=8),
]


@pytest.fixture(autouse=True)
def one_thread():
    """As a worker tags; two threads wait for each other among other busy processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clips(seed, n_clips=5, n_mels=96, n_frames=128):
    return np.random.default_rng(seed).normal(-40, 12, (n_clips, n_mels, n_frames)).astype(np.float32)


def network(backend, config=SMALL):
    """`random_net` run by `backend`; skips where this machine cannot."""
    try:
        return with_backend(for_inference(random_net(config=config)), backend)
    except ConfigError as error:
        pytest.skip(error.message)


def logits(net, log_mel):
    with torch.inference_mode():
        return torch.cat(list(net(torch.tensor(log_mel)).values()), dim=1).numpy()


@pytest.mark.parametrize("config", PRESETS, ids=lambda config: config.preset)
@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_every_backend_is_the_same_network_up_to_rounding(backend, config):
    exact, net = for_inference(random_net(config=config)), network(backend, config)
    for shape in ((5, 96, 128), (1, 61, 93), (2, 64, 32)):
        expected, found = logits(exact, clips(1, *shape)), logits(net, clips(1, *shape))
        assert (found.dtype, found.shape) == (np.float32, expected.shape)
        allowed = 0.02 if backend.endswith("bf16") else 1e-4
        assert np.abs(found - expected).max() <= allowed * max(1, np.abs(expected).max())
        if backend.endswith("bf16"):
            assert not np.array_equal(found, expected)  # it did compute in bfloat16


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_bits_of_a_track_do_not_depend_on_what_came_before(backend):
    tracks = [clips(seed, n_clips) for seed, n_clips in enumerate((5, 1, 8, 3, 5, 2))]
    tracks.append(clips(9, 5, n_frames=64))
    alone = [logits(network(backend), track) for track in tracks]
    net = network(backend)
    for seed in range(3):
        for n in np.random.default_rng(seed).permutation(2 * len(tracks)) % len(tracks):
            assert np.array_equal(logits(net, tracks[n]), alone[n])


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_given_is_not_changed_and_what_came_back_stays(backend):
    blocks, track = network(backend).blocks, torch.randn(3, 1, 96, 128)
    before = track.clone()
    with torch.inference_mode():
        first = blocks(track)
        kept = first.clone()
        blocks(track + 1)
    assert torch.equal(track, before) and torch.equal(first, kept)


@pytest.mark.parametrize(("backend", "precision"), [("openvino", "f32"), ("openvino-bf16", "bf16")])
def test_openvino_computes_as_asked_in_one_thread_that_may_run_on_any_core(backend, precision):
    """Pinned, the workers of a machine would all compute on its first core."""
    net = network(backend)
    logits(net, clips(1))
    (request,) = net.blocks._requests.values()
    compiled = request.get_compiled_model()
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == precision


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tagger_says_which_backend_made_its_rows(backend, tmp_path):
    network(backend)  # skips
    tagger, root = random_tagger(), Storage(str(tmp_path))
    ModelStore(root).publish("m", tagger.to_files(), tagger.model_id)
    _, loaded = load_tagger(root, "m", expected_id=tagger.model_id, backend=backend)
    assert loaded.lineage == tagger.lineage | {"backend": backend}
    assert tagger.lineage["backend"] == tagger.backend == "torch"
    other = loaded.with_calibration(Calibration())
    assert other.backend == backend and other.tag(clips(1)) == loaded.tag(clips(1))
    assert loaded.to_files() == tagger.to_files()
    for axis, found in loaded.clip_logits(clips(1)).items():
        assert found.shape == (5, len(next(a.labels for a in TAXONOMY.axes if a.axis == axis)))


def test_an_unknown_backend_is_refused():
    with pytest.raises(ConfigError, match="no backend 'tensorflow'") as refused:
        random_tagger(backend="tensorflow")
    assert "torch-bf16" in refused.value.hint


@pytest.mark.parametrize("backend", CPU_ONLY)
def test_a_backend_that_is_not_installed_is_refused(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=f"{backend} needs the package openvino") as refused:
        random_tagger(backend=backend)
    assert "tagfleet[openvino]" in refused.value.hint


@pytest.mark.parametrize("backend", CPU_ONLY)
def test_openvino_is_not_taken_for_a_gpu(backend):
    with pytest.raises(ConfigError, match="not on cuda"):
        random_tagger(backend=backend, device="cuda")


def test_a_processor_without_bfloat16_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx512_bf16": False})
    with pytest.raises(ConfigError, match="torch-bf16 needs a processor"):
        random_tagger(backend="torch-bf16")


@needs_openvino
def test_a_processor_without_bfloat16_is_refused_by_openvino(monkeypatch):
    import openvino

    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(ConfigError, match="openvino-bf16 needs a processor"):
        random_tagger(backend="openvino-bf16")


@needs_openvino
def test_openvino_tells_nobody_that_it_was_imported(tmp_path):
    """Its package openvino_telemetry would leave a client id in the home folder and call Google Analytics."""
    code = (
        "import sys, torch\n"
        "from tagfleet.model.backends import with_backend\n"
        "from tagfleet.model.config import NetworkConfig\n"
        "from tagfleet.model.network import TagNet, for_inference\n"
        "with_backend(for_inference(TagNet(NetworkConfig(width=4), {'a': 1})), 'openvino')\n"
        "print('openvino' in sys.modules, [n for n, m in sys.modules.items() if 'openvino_telemetry' in n and m])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["True", "[]\n"]
    assert list(tmp_path.iterdir()) == []
