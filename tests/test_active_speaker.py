"""Active speaker models: what they see and hear, their verdicts and offsets, and how training windows are labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dyconv.errors import ModelMissing
from dyconv.models import lr_asd, mouth_sync, registry
from dyconv.models.lr_asd_net import LrAsdNet
from dyconv.models.mouth_crop import mouth_picture
from dyconv.models.mouth_sync_input import LIPS, lip_shapes, mel_bands
from dyconv.models.mouth_sync_net import MouthSyncNet
from dyconv.models.slots import FaceTrack
from training.active_speaker.compose import SOUNDS, Composer
from training.active_speaker.data import Clip, mirrored
from training.active_speaker.export import logistic
from training.active_speaker.train import Learner, sync_loss

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "models" / "lr-asd" / "pretrain_AVA.model"
SPEAKER = "sadtalker__WDA_KatieHill_000"


def mesh(frames: int = 40, seed: int = 0) -> np.ndarray:
    """A made-up head [frames, 478, 3] that holds still: random points, with eyes, forehead and chin where they belong."""
    points = np.random.default_rng(seed).normal(0, 30, (478, 3)) + 100
    points[[33, 263, 10, 152, 61, 291, 13, 14]] = np.array(
        [[70, 80, 0], [130, 80, 0], [100, 30, 0], [100, 180, 0], [85, 140, 0], [115, 140, 0], [100, 138, 0], [100, 142, 0]]
    )
    return np.repeat(points[None], frames, 0).astype(np.float32)


def turned(points: np.ndarray, angle: float, scale: float, shift: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return (scale * points @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + shift).astype(np.float32)


def test_lip_shapes_leave_the_heads_motion_out() -> None:
    still = mesh()
    moving = np.stack([turned(points, 0.01 * t, 1 + 0.005 * t, 2.0 * t) for t, points in enumerate(still)])
    present = np.ones(len(still), bool)
    assert np.abs(lip_shapes(moving, present) - lip_shapes(still, present)).max() < 1e-2

    opening = still.copy()
    opening[20:, 14, 1] += 6.0  # a tenth of the eye distance, which is what a unit is
    shapes = lip_shapes(opening, present)
    column = 3 * LIPS.index(14) + 1
    assert shapes[30, column] - shapes[10, column] == pytest.approx(1.0, abs=0.02)

    present[5] = False
    assert not lip_shapes(still, present)[5].any()
    assert not lip_shapes(still, np.zeros(len(still), bool)).any()


def test_mouth_picture_turns_with_the_head() -> None:
    random = np.random.default_rng(1)
    import cv2

    image = cv2.GaussianBlur(random.integers(0, 255, (240, 240, 3), np.uint8), (0, 0), 4)
    points = mesh(1)[0]
    upright = mouth_picture(image, points, 48, 1.25)
    about = np.array([100.0, 110.0])
    matrix = cv2.getRotationMatrix2D((100.0, 110.0), -20.0, 1.0)
    tilted = points.copy()
    tilted[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(about @ matrix[:, :2].T + matrix[:, 2], about)
    same = mouth_picture(cv2.warpAffine(image, matrix, (240, 240)), tilted, 48, 1.25)
    assert upright.shape == (48, 48) and upright.dtype == np.uint8
    assert np.abs(upright.astype(int) - same).mean() < 3 < np.abs(upright.astype(int) - upright[::-1]).mean()


def test_mel_bands_keep_time_and_ignore_loudness() -> None:
    random = np.random.default_rng(2)
    samples = random.normal(0, 0.001, 640 * 30).astype(np.float32)
    samples[640 * 10 : 640 * 20] += random.normal(0, 0.1, 6400).astype(np.float32)
    bands = mel_bands(samples, 30)
    assert bands.shape == (120, 40)
    loud = bands.mean(axis=1)
    assert loud[41:79].min() > loud[:39].max() + 1 and loud[41:79].min() > loud[81:].max() + 1
    assert np.abs(mel_bands(samples * 0.2, 30) - bands).max() < 1e-3
    assert np.isfinite(mel_bands(np.zeros(640 * 3, np.float32), 3)).all()


def test_mfcc_are_those_of_a_plain_computation() -> None:
    samples = np.random.default_rng(3).normal(0, 0.1, 640 * 4).astype(np.float32)
    found = lr_asd.mfcc(samples, 4)
    assert found.shape == (16, 13)
    scaled = samples.astype(np.float64) * 32768
    emphasised = np.append(scaled[0], scaled[1:] - 0.97 * scaled[:-1])
    power = np.abs(np.fft.rfft(emphasised[5 * 160 : 5 * 160 + 400], 512)) ** 2 / 512
    points = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28)
    edges = np.floor(513 * 700 * (10 ** (points / 2595) - 1) / 16000).astype(int)
    logs = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        rising = sum(power[k] * (k - low) / (middle - low) for k in range(low, middle))
        logs.append(np.log(rising + sum(power[k] * (high - k) / (high - middle) for k in range(middle, high))))
    for order in range(1, 13):
        cosine = np.cos(np.pi * order * (np.arange(26) + 0.5) / 26)
        value = np.sqrt(2 / 26) * np.dot(logs, cosine) * (1 + 11 * np.sin(np.pi * order / 22))
        assert found[5, order] == pytest.approx(value, rel=1e-4, abs=1e-3)
    assert found[5, 0] == pytest.approx(np.log(power.sum()), rel=1e-5)


def test_lr_asd_says_what_to_do_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelMissing, match="found no file") as missing:
        lr_asd.LrAsd(tmp_path / "nothing.model")
    assert "DYCONV_LR_ASD" in str(missing.value.hint)
    (tmp_path / "broken.model").write_bytes(b"not a state dict")
    with pytest.raises(ModelMissing, match="not LR-ASD's state dict"):
        lr_asd.LrAsd(tmp_path / "broken.model")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.model")
    with pytest.raises(ModelMissing, match="not LR-ASD's state dict"):
        lr_asd.LrAsd(tmp_path / "other.model")
    monkeypatch.setenv("DYCONV_LR_ASD", str(tmp_path / "mine.model"))
    assert registry.weight_path(lr_asd.weight()) == (tmp_path / "mine.model").resolve()


def test_lr_asd_goes_through_a_track_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    torch.save(LrAsdNet().state_dict(), tmp_path / "w.model")
    model = lr_asd.LrAsd(tmp_path / "w.model")
    random = np.random.default_rng(4)
    present = np.ones(40, bool)
    present[:3] = False
    track = FaceTrack(mesh(40), present, random.integers(0, 255, (40, 112, 112), np.uint8))
    samples = random.normal(0, 0.1, 40 * 640).astype(np.float32)
    whole = model.score(track, samples, np.ones(40, np.float32))
    assert whole.shape == (40,) and whole.dtype == np.float32
    assert not whole[:3].any() and whole[3:].all()
    monkeypatch.setattr(lr_asd, "_PICTURES", 11)
    assert np.allclose(model.score(track, samples, np.ones(40, np.float32)), whole, atol=1e-5)
    with pytest.raises(ValueError, match="expected thumbs"):
        model.score(FaceTrack(track.landmarks, present), samples, present.astype(np.float32))


def test_mouth_sync_does_not_depend_on_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = registry.load("mouth_sync")
    random = np.random.default_rng(5)
    frames = 300
    landmarks = mesh(frames) + random.normal(0, 0.5, (frames, 478, 3)).astype(np.float32)
    present = np.ones(frames, bool)
    present[100:120] = False
    track = FaceTrack(landmarks, present, random.integers(0, 255, (frames, 48, 48), np.uint8))
    samples, speech = random.normal(0, 0.1, frames * 640).astype(np.float32), np.ones(frames, np.float32)
    whole, offset = model.score(track, samples, speech), model.offset(track, samples, speech)
    assert whole.dtype == np.float32 and not whole[100:120].any() and np.abs(whole).max() <= 8
    assert np.array_equal(model.score(track, samples, speech), whole)
    monkeypatch.setattr(mouth_sync, "_BLOCK", 37)
    assert np.allclose(model.score(track, samples, speech), whole, atol=1e-3)
    again = model.offset(track, samples, speech)
    assert again.frames == pytest.approx(offset.frames, abs=1e-2) and 0 <= again.confidence <= 1
    assert model.score(FaceTrack(landmarks, present), samples, speech).shape == (frames,)
    assert model.offset(track, samples, np.zeros(frames, np.float32)) is None
    assert not model.score(FaceTrack(landmarks, present & False), samples, speech).any()


def test_a_verdict_depends_on_no_more_than_the_margin() -> None:
    torch.manual_seed(0)
    net = MouthSyncNet().eval()
    thumbs, shapes, bands = torch.randn(1, 200, 48, 48), torch.randn(1, 200, 53), torch.randn(1, 800, 40)
    with torch.inference_mode():
        plain = net.log_odds(net.watch(thumbs, shapes), net.hear(bands))[0]
        thumbs[:, 100], shapes[:, 100], bands[:, 400:404] = 5.0, 5.0, 5.0
        changed = (net.log_odds(net.watch(thumbs, shapes), net.hear(bands))[0] - plain).abs() > 0
    reach = (changed.nonzero() - 100).abs().max()
    assert 10 < reach < mouth_sync._MARGIN - mouth_sync.SHIFTS + 15


def test_best_shift_lies_between_frames() -> None:
    shifts = np.arange(-15, 16)
    curve = -((shifts - 3.3) ** 2) * 0.01
    assert mouth_sync.best_shift(curve) == pytest.approx(3.3, abs=1e-6)
    assert mouth_sync.best_shift(shifts * 1.0) == 15
    assert mouth_sync.best_shift(np.zeros(31)) == -15
    peak = np.zeros(31)
    peak[20] = 1.0
    assert mouth_sync.prominence(peak, 100) == pytest.approx(2.0)
    assert mouth_sync.prominence(peak, 100) > mouth_sync.prominence(peak * 0.5, 100) > mouth_sync.prominence(peak * 0, 100)


def test_agreement_is_highest_where_sound_follows_lips() -> None:
    random = np.random.default_rng(10)
    lips = random.normal(0, 1, (120, 8)).astype(np.float32)
    lips /= np.linalg.norm(lips, axis=1, keepdims=True)
    talking = (np.arange(120) % 40 < 30).astype(np.float32)
    curve = mouth_sync.agreement(lips, np.roll(lips, 6, 0), talking)
    assert curve.argmax() == 15 + 6 and curve[21] > 0.8
    one_sided = np.concatenate([lips, np.ones((120, 1), np.float32)], axis=1)  # agrees with everything
    shifted = mouth_sync.agreement(one_sided, np.roll(one_sided, 6, 0), talking)
    assert np.abs(shifted - curve).max() < 1e-5
    short = mouth_sync.agreement(lips[:5], lips[:5], talking[:5])
    assert short.shape == (31,) and short.argmax() == 15 and not short[:10].any()


def made_clip(name: str, frames: int = 200, *, talks: bool = True, seed: int = 0) -> Clip:
    random = np.random.default_rng(seed)
    sound = (random.normal(0, 3000, frames * 640) * np.repeat(np.arange(frames) % 50 < 35, 640)).astype(np.int16)
    return Clip(
        name,
        random.integers(0, 255, (frames, 64, 64), np.uint8),
        random.normal(0, 1, (frames, 53)).astype(np.float32),
        np.ones(frames, bool),
        sound if talks else sound[:0],
        (np.arange(frames) % 50 < 35).astype(np.float32) * talks,
        False,
        None,
        np.array([40, 45]),
    )


def test_training_windows_say_who_speaks() -> None:
    clips = [made_clip("a__1", seed=1), made_clip("b__1", seed=2), made_clip("c__1", talks=False, seed=3)]
    voices = [np.random.default_rng(6).normal(0, 2000, 16000 * 4).astype(np.int16)]
    composer = Composer(clips, voices, voices, 64, 7, {})
    windows = [composer.window() for _ in range(30)]
    labelled = np.concatenate([window.speaks.ravel() for window in windows])
    assert 0.05 < labelled.mean() < 0.6
    for window in windows:
        assert window.thumbs.shape == (64, 48, 48) and window.bands.shape == (SOUNDS, 256, 40)
        assert (window.speaks <= window.heard + 1e-6).all()  # nobody speaks who is not heard
        assert (window.matching <= window.speaks).all()
        silent = np.isnan(window.moving)
        assert not window.speaks[:, silent].any()  # a clip without sound never speaks
        assert (window.speaks[0][~silent] <= window.moving[~silent]).all()
    same = Composer(clips, voices, voices, 64, 7, {}).window()
    assert np.array_equal(same.bands, windows[0].bands) and np.array_equal(same.thumbs, windows[0].thumbs)


def test_a_mirror_twice_is_the_face_again() -> None:
    shapes = np.random.default_rng(8).normal(0, 1, (5, 53)).astype(np.float32)
    once = mirrored(shapes)
    assert np.array_equal(mirrored(once), shapes)
    left, right = 3 * LIPS.index(61), 3 * LIPS.index(291)
    assert np.array_equal(once[:, left], -shapes[:, right]) and np.array_equal(once[:, left + 1], shapes[:, right + 1])


def test_sync_loss_wants_lips_and_sound_in_time() -> None:
    torch.manual_seed(0)
    learner = Learner()
    learner.net.heard_sync.load_state_dict(learner.net.seen_sync.state_dict())
    seen = torch.randn(4, 64, 96)
    heard = seen.repeat_interleave(SOUNDS, 0)
    matching = torch.ones(4 * SOUNDS, 64)
    right = sync_loss(learner, seen, heard, matching)
    assert right < 0.5 < sync_loss(learner, seen, heard.roll(4, 1), matching)
    assert right < sync_loss(learner, seen, heard.roll(SOUNDS, 0), matching)
    assert sync_loss(learner, seen, heard, matching * 0) == 0


def test_logistic_finds_the_odds_data_were_made_with() -> None:
    random = np.random.default_rng(9)
    truth = random.random(20000) < 0.2  # unlike classes weigh alike
    values = random.normal(np.where(truth, 1.0, -1.0), 1.0)
    slope, offset = logistic(values, truth)
    assert slope == pytest.approx(2.0, abs=0.1) and offset == pytest.approx(0.0, abs=0.1)


@pytest.fixture(scope="module")
def talking(real_data: Path) -> dict[str, np.ndarray]:
    """A held-out speaker, eight seconds."""
    from training.active_speaker.prepare import read_head
    from training.corpora import Head

    video = real_data / "heads" / f"{SPEAKER}.mp4"
    models = (registry.load("mediapipe_face"), registry.load("mediapipe_mesh"))
    arrays = read_head(Head(SPEAKER, video, video), models, registry.load("silero"))
    assert arrays is not None
    return arrays


def scores(model: object, arrays: dict[str, np.ndarray], samples: np.ndarray, rest: bool = False) -> np.ndarray:
    from dyconv.faces import unpack_points

    index = np.arange(len(arrays["present"])) * (not rest)
    thumbs = arrays["face"] if model.thumb_px == 112 else arrays["mouth"][:, 8:-8, 8:-8]
    track = FaceTrack(unpack_points(arrays["landmarks"])[index], arrays["present"][index], thumbs[index])
    return model.score(track, samples, arrays["speech"])


@pytest.mark.parametrize("name", ["mouth_sync", "lr_asd"])
def test_a_speaker_is_told_from_still_lips_and_from_silence(name: str, talking: dict[str, np.ndarray]) -> None:
    if name == "lr_asd" and not PUBLISHED.is_file():
        pytest.skip("no published weights")
    model = lr_asd.LrAsd(PUBLISHED) if name == "lr_asd" else registry.load(name)
    samples = talking["sound"].astype(np.float32) / 32768
    heard = talking["speech"] > 0.6
    own = scores(model, talking, samples)[heard]
    assert (own > 0).mean() > 0.75
    assert (scores(model, talking, samples * 0) < 0).mean() > 0.9
    assert np.median(scores(model, talking, samples, rest=True)[heard]) < 0 < np.median(own)


def test_injected_shifts_are_found(talking: dict[str, np.ndarray]) -> None:
    from dyconv.faces import unpack_points

    model = registry.load("mouth_sync")
    samples = talking["sound"].astype(np.float32) / 32768
    track = FaceTrack(unpack_points(talking["landmarks"]), talking["present"], talking["mouth"][:, 8:-8, 8:-8])
    base = model.offset(track, samples, talking["speech"]).frames
    for shift in (-5, 4, 8):
        found = model.offset(track, np.roll(samples, shift * 640), np.roll(talking["speech"], shift))
        assert found.frames - base == pytest.approx(shift, abs=1.0)
