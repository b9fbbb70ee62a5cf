import numpy as np
import pytest
import torch

from tagfleet.model.augment import FLOOR_DB, augment, mixup, random_gain, spec_augment, time_shift
from tagfleet.model.config import AugmentConfig


def rng(seed=1):
    return np.random.default_rng(seed)


@pytest.fixture
def clips():
    torch.manual_seed(0)
    return torch.randn(3, 40, 50) * 5 - 40


EVERYTHING = AugmentConfig(max_shift_frames=7, mask_mels=8, mask_frames=10, n_masks=2)


def test_the_same_generator_gives_the_same_clips_and_leaves_the_input_alone(clips):
    before = clips.clone()
    assert torch.equal(augment(clips, EVERYTHING, rng()), augment(clips, EVERYTHING, rng()))
    assert not torch.equal(augment(clips, EVERYTHING, rng()), augment(clips, EVERYTHING, rng(2)))
    assert torch.equal(clips, before)


def test_nothing_is_drawn_from_the_global_generator(clips):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    augment(clips, EVERYTHING, rng())
    assert torch.equal(torch.rand(1), expected)


def test_all_off_changes_nothing(clips):
    assert torch.equal(augment(clips, AugmentConfig(max_gain_db=0), rng()), clips)


def test_a_gain_moves_a_clip_as_a_whole_within_its_bounds_and_silence_stays(clips):
    moved = random_gain(clips, 6.0, rng()) - clips
    assert torch.all(moved.abs() <= 6.0 + 1e-4)
    assert all((clip.max() - clip.min()).item() < 1e-4 for clip in moved)
    assert len({round(clip.mean().item(), 3) for clip in moved}) == 3, "one gain for all"
    silence = torch.full((2, 4, 5), FLOOR_DB)
    assert torch.all(random_gain(silence, 6.0, rng()) >= FLOOR_DB)


def test_a_shift_turns_frames_round(clips):
    shifted = time_shift(clips, 9, rng())
    for before, after in zip(clips, shifted, strict=True):
        shifts = [n for n in range(-9, 10) if torch.equal(before.roll(n, dims=-1), after)]
        assert len(shifts) == 1


def test_masks_are_whole_bands_and_whole_frames_at_the_mean_level(clips):
    seen_bands, seen_frames = set(), set()
    for seed in range(40):
        masked = spec_augment(clips, 8, 10, 1, rng(seed))
        for before, after in zip(clips, masked, strict=True):
            changed = before != after
            assert torch.all(after[changed] == before.mean())
            bands, frames = changed.all(dim=1), changed.all(dim=0)
            assert torch.equal(changed, bands[:, None] | frames[None, :])
            assert bands.sum() <= 8 and frames.sum() <= 10
            seen_bands.add(int(bands.sum()))
            seen_frames.add(int(frames.sum()))
    assert len(seen_bands) > 5 and len(seen_frames) > 6


def test_mixup_mixes_clips_and_answers_with_one_share(clips):
    targets = torch.eye(3)
    mixed, answers, weights = mixup(clips, targets, torch.ones(3, 3), 0.4, rng(3))
    torch.testing.assert_close(mixed, torch.einsum("ij,jkl->ikl", answers, clips))
    torch.testing.assert_close(answers.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(weights, torch.ones(3, 3))


def test_what_is_mixed_with_an_unknown_is_unknown(clips):
    targets = torch.tensor([[1.0, 0.0], [float("nan")] * 2, [0.0, 1.0]])
    _, answers, _ = mixup(clips, targets, torch.ones(3, 2), 0.4, rng(0))
    assert answers.isnan().any()


def test_no_mixup_returns_what_came_in(clips):
    targets = torch.eye(3)
    assert mixup(clips, targets, targets, 0.0, rng())[0] is clips
