import math
from contextlib import nullcontext

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tagfleet.errors import DigestMismatch, JobError
from tagfleet.fleet import train_loop
from tagfleet.fleet.checkpoints import restore
from tagfleet.fleet.team import Team
from tagfleet.fleet.train import heard_examples
from tagfleet.fleet.train_loop import moving_average, run_epochs, start, warmup_cosine
from tagfleet.store.objects import Storage
from tests.fleet.alone import prepared
from tests.fleet.synthetic import recipe, store_catalog, store_log_mels

N = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = Storage(str(tmp_path_factory.mktemp("loop")))
    store_catalog(root, N)
    store_log_mels(root, N)
    return root


@given(st.integers(1, 300), st.floats(0, 0.9))
def test_the_learning_rate_rises_to_one_and_falls_to_near_nothing(total, warmup):
    factors = [warmup_cosine(step, total=total, warmup=warmup) for step in range(total)]
    assert all(0 <= factor <= 1 for factor in factors)
    top = max(range(total), key=factors.__getitem__)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert factors[top] == pytest.approx(1) or total == 1


def test_the_average_follows_at_its_decay_and_young_ones_faster():
    averaged, current = [torch.zeros(3)], [torch.ones(3)]
    moving_average(0.9, averaged, current, 0)
    assert averaged[0][0] == pytest.approx(0.9)  # (1 + 0) / (10 + 0) of the old
    averaged = [torch.zeros(3)]
    moving_average(0.9, averaged, current, 10_000)
    assert averaged[0][0] == pytest.approx(0.1)
    counters = [torch.tensor(3)]
    moving_average(0.9, counters, [torch.tensor(8)], 5)
    assert counters[0] == 8


def test_what_is_measured_and_kept_is_the_average(root):
    _, _, job = prepared(root, train={"epochs": 2, "batch_size": 8}, optimiser={"ema_decay": 0.9})
    progress = run_epochs(job, Team())
    net, average = progress.net.state_dict(), progress.average.module.state_dict()
    assert not torch.equal(net["dense.weight"], average["dense.weight"])
    best = progress.best["dense.weight"]
    assert progress.best_epoch != 2 or torch.equal(best, average["dense.weight"])
    plain = run_epochs(prepared(root, train={"epochs": 2, "batch_size": 8}, optimiser={"ema_decay": 0.0})[2], Team())
    assert torch.equal(plain.net.state_dict()["dense.weight"], net["dense.weight"]), "an average changes no step"


def test_a_checkpoint_goes_on_bit_for_bit(root, tmp_path):
    _, _, job = prepared(root, train={"epochs": 4, "batch_size": 8, "patience": 0})
    folders = []

    def keep(line, write):
        folder = tmp_path / str(len(line["history"]))
        folder.mkdir()
        write(folder)
        folders.append(folder)

    whole = run_epochs(job, Team(report=keep))
    progress = start(job, Team(), 5)
    restore(progress, folders[1])
    assert len(progress.history) == 2
    again = run_epochs(job, Team(restored=lambda: nullcontext(folders[1])))
    assert again.best_epoch == whole.best_epoch
    for name, tensor in whole.best.items():
        assert torch.equal(again.best[name], tensor)
    losses = [[line["train_loss"] for line in progress.history] for progress in (whole, again)]
    assert losses[0] == losses[1]


def test_a_checkpoint_of_another_recipe_is_refused(root, tmp_path):
    _, _, job = prepared(root, train={"epochs": 1, "batch_size": 8})
    run_epochs(job, Team(report=lambda line, write: write(tmp_path)))
    _, _, other = prepared(root, train={"epochs": 2, "batch_size": 8})
    with pytest.raises(DigestMismatch, match="the checkpoint was made with recipe"):
        restore(start(other, Team(), 5), tmp_path)


def test_patience_ends_a_training_that_no_longer_gets_better(root):
    changes = {"optimiser": {"learning_rate": 1e-9}, "network": {"width": 4, "dropout": 0.0}}
    _, _, job = prepared(root, train={"epochs": 12, "patience": 2, "batch_size": 8}, **changes)
    progress = run_epochs(job, Team())
    assert progress.best_epoch + 2 == len(progress.history) < 12


def test_a_gradient_that_is_no_number_stops_before_the_weights_are_touched(root, monkeypatch):
    _, _, job = prepared(root, train={"epochs": 1, "batch_size": 8})
    monkeypatch.setattr(train_loop.nn.utils, "clip_grad_norm_", lambda parameters, norm: torch.tensor(math.inf))
    with pytest.raises(JobError, match=r"the gradient is inf in epoch 1, at tracks t0"):
        run_epochs(job, Team())


def test_the_network_computes_with_the_threads_it_asked_for_though_readers_have_one(root, monkeypatch):
    seen = set()
    original = train_loop.step

    def look(*words):
        seen.add(torch.get_num_threads())
        return original(*words)

    monkeypatch.setattr(train_loop, "step", look)
    _, _, job = prepared(root, train={"epochs": 1, "batch_size": 8}, workers={"n_workers": 1, "cpus_per_worker": 2.0})
    before = torch.get_num_threads()
    try:
        run_epochs(job, Team())
    finally:
        torch.set_num_threads(before)
    assert seen == {2}


def test_what_can_be_heard_only_later_stays_out_of_a_resumed_run(root):
    data, index, _ = prepared(root)
    n_frames = index["n_frames"].to_pylist()
    place = index.schema.get_field_index("n_frames")

    def heard(silent):
        values = [0 if n in silent else frames for n, frames in enumerate(n_frames)]
        table = index.set_column(place, index.schema.field(place), pa.array(values, pa.int32()))
        return heard_examples(root, "later", data.examples, table)["track_id"].to_pylist()

    first = heard({0, 1})
    assert len(first) == N - 2
    assert heard(set()) == first
    with pytest.raises(DigestMismatch, match="3 tracks that run later began with"):
        heard({0, 1, 2, 3, 4})


def test_on_a_cpu_nothing_is_computed_in_bfloat16(root):
    _, _, job = prepared(root, train={"epochs": 1, "batch_size": 8})
    assert isinstance(train_loop.autocast(job.recipe, torch.device("cpu")), nullcontext)
    with pytest.raises(ValidationError, match="bfloat16 is for GPUs"):
        recipe(train={"precision": "bfloat16"})


def test_an_epoch_tells_how_the_time_went(root):
    line = run_epochs(prepared(root, train={"epochs": 1, "batch_size": 8})[2], Team()).history[0]
    assert math.isfinite(line["train_loss"]) and 0 <= line["wait_share"] <= 1
    assert line["memory_mb"] > 100 and line["clips_per_s"] > 0 and line["learning_rate"] >= 0
