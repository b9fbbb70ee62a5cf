import threading
import time
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch

from tagfleet.fleet.batches import Batches, read_ahead
from tagfleet.fleet.dataset import rows_of, stored_examples
from tagfleet.fleet.excerpts import LogMelFiles
from tagfleet.fleet.features import index_of, read_index
from tagfleet.fleet.training_data import resolve
from tagfleet.store.objects import Storage
from tests.fleet.synthetic import AUDIO, FOLDER, settings, store_catalog, store_log_mels

N = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = Storage(str(tmp_path_factory.mktemp("batches")))
    store_catalog(root, N)
    store_log_mels(root, N)
    return root


def batches(root, *, rank=0, n_workers=1, seed=1, **changes):
    data = resolve(root, settings(train={"batch_size": 8, "seed": seed}, **changes))
    index = index_of(data.tracks, read_index(root, FOLDER), {})
    stored = stored_examples(rows_of(data.examples, "train"), index)
    return Batches(LogMelFiles(root, AUDIO.log_mel.n_mels), stored, data.recipe, rank=rank, n_workers=n_workers)


def steps(root, n_workers, epoch=3, **changes):
    """Per step, the clips of all workers by track and turn."""
    shares = [list(batches(root, rank=r, n_workers=n_workers, **changes).of(epoch)) for r in range(n_workers)]
    found = []
    for parts in zip(*shares, strict=True):
        clips = Counter()
        for batch, _ in parts:
            for track_id, pair in zip(batch.track_ids, batch.log_mel.split(4), strict=True):
                clips[track_id, pair.numpy().tobytes()] += 1
        found.append(clips)
    return found


AUGMENTED = {"augment": {"max_shift_frames": 5, "mask_mels": 9, "mask_frames": 5}, "data": {"balance": 1.0}}


@pytest.mark.parametrize("changes", [{}, AUGMENTED])
def test_one_two_and_four_workers_hear_the_same_clips_in_the_same_steps(root, changes):
    alone = steps(root, 1, **changes)
    assert sum(map(Counter.total, alone)) == len(alone) * 8
    assert steps(root, 2, **changes) == alone
    assert steps(root, 4, **changes) == alone


def test_another_epoch_and_another_seed_hear_other_clips(root):
    first = {clip for step in steps(root, 1) for clip in step}
    for other in (steps(root, 1, epoch=4), steps(root, 1, seed=9)):
        assert first.isdisjoint(clip for step in other for clip in step)
    assert steps(root, 1, workers={"n_workers": 1, "readers": 3}) == steps(root, 1), "threads that read decide nothing"


def test_a_track_that_comes_up_twice_in_an_epoch_gives_other_clips(root):
    it = batches(root)
    (first,) = [draw for step in it.draws(1) for draw in step if draw.track == 0]
    assert not torch.equal(it.clips(1, first), it.clips(1, first._replace(turn=1)))
    assert torch.equal(it.clips(1, first), it.clips(1, first))


def test_clips_are_pieces_of_the_stored_track(root):
    it = batches(root, augment={"max_gain_db": 0.0})
    draw = it.draws(2)[0][0]
    place = it.stored.places[draw.track]
    whole = it.files.frames(place, 0, place.n_frames).astype(np.float32).T
    for clip in it.clips(2, draw).numpy():
        places = [n for n in range(place.n_frames - 31) if np.array_equal(whole[:, n : n + 32], clip)]
        assert len(places) == 1


def test_mixup_mixes_targets_with_clips(root):
    mixed, _ = next(batches(root, augment={"mixup": 0.4}).of(1))
    assert not set(np.unique(mixed.targets[~mixed.targets.isnan()])) <= {0.0, 1.0}
    plain, _ = next(batches(root).of(1))
    assert set(np.unique(plain.targets[~plain.targets.isnan()])) <= {0.0, 1.0}


def test_fewer_tracks_than_a_batch_are_one_batch_that_can_be_shared(root):
    it = batches(root, n_workers=2)
    few = Batches(
        it.files,
        type(it.stored)(
            track_ids=it.stored.track_ids[:5],
            places=it.stored.places[:5],
            targets=it.stored.targets[:5],
            weights=it.stored.weights[:5],
        ),
        it.recipe,
        rank=0,
        n_workers=2,
    )
    assert (few.tracks_per_step, few.n_steps) == (4, 1)
    assert len(few.draws(1)[0]) == 2


def test_read_ahead_keeps_the_order_and_stays_within_its_bound():
    started, lock = [], threading.Lock()

    def make(n):
        with lock:
            started.append(n)
        time.sleep(0.02 * (n % 3))
        return n

    seen = []
    for value, waited_s in read_ahead([partial(make, n) for n in range(12)], n_threads=3, n_ahead=2):
        seen.append(value)
        assert len(started) <= value + 1 + 2 + 1
        assert waited_s >= 0
    assert seen == list(range(12))


def test_read_ahead_raises_what_a_batch_raised_and_leaves_no_thread():
    def make(n):
        if n == 2:
            raise OSError("gone")
        return n

    before = threading.active_count()
    with pytest.raises(OSError, match="gone"):
        list(read_ahead([partial(make, n) for n in range(5)], n_threads=2, n_ahead=2))
    assert threading.active_count() == before
