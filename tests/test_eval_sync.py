"""Lips and voice: SyncNet as published, and the own network; known answers, direct definitions, corruption."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from dyconv.errors import ModelMissing
from dyconv.time import SAMPLES_PER_FRAME
from training.evaluation.case import ALL, Case, View
from training.evaluation.evidence import Chunk, Evidence, Role, Shown
from training.evaluation.faces import FaceReader
from training.evaluation.metric import Choice, Metric
from training.evaluation.sync import Confidence, Lag, LseC, LseD, MouthSyncVectors, Offset, WithinOne, family
from training.evaluation.syncnet import SyncNet, SyncNetDistances, distances_of, face_of, filled, mel_bank, mfcc, squares_of


def evidence(made: Mapping[str, np.ndarray], frames: int, loud: float = -2.0) -> Evidence:
    every = np.ones(frames, bool)
    own = np.full(frames, loud, np.float32)
    return Evidence(Case("c", "p0", "c", View.VIDEO, frames), made, made, {}, {}, {}, own, own, {ALL: every})


def value(metric: Metric, case: Evidence) -> float:
    sums = metric.sums(case, case.slices[ALL])
    return float("nan") if sums is None else metric.value(sums)


def noise(frames: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(frames * SAMPLES_PER_FRAME)).astype(np.float32)


def direct_mfcc(samples: np.ndarray) -> np.ndarray:
    """Step by step, with explicit sums."""
    values = np.rint(samples.astype(np.float64) * 32768)
    emphasised = np.array([values[0], *(values[n] - 0.97 * values[n - 1] for n in range(1, len(values)))])
    count = 1 + int(np.ceil((len(values) - 400) / 160))
    emphasised = np.concatenate([emphasised, np.zeros(count * 160 + 400)])
    corners = [700 * (10 ** (mel / 2595) - 1) for mel in np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 28)]
    bins = [int(np.floor(513 * hz / 16000)) for hz in corners]
    bank = np.zeros((26, 257))
    for band in range(26):
        for place in range(bins[band], bins[band + 1]):
            bank[band, place] = (place - bins[band]) / (bins[band + 1] - bins[band])
        for place in range(bins[band + 1], bins[band + 2]):
            bank[band, place] = (bins[band + 2] - place) / (bins[band + 2] - bins[band + 1])
    cosines = np.array([[np.cos(np.pi * k * (2 * n + 1) / 52) for n in range(26)] for k in range(13)])
    cosines *= np.sqrt(np.where(np.arange(13) == 0, 1 / 26, 2 / 26))[:, None]
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    out = []
    for start in range(0, count * 160, 160):
        power = np.abs(np.fft.rfft(emphasised[start : start + 400], 512)) ** 2 / 512
        row = lifter * (cosines @ np.log(bank @ power))
        row[0] = np.log(power.sum())
        out.append(row)
    return np.array(out)


def test_cepstra_agree_with_a_direct_definition() -> None:
    voice = noise(10)
    np.testing.assert_allclose(mfcc(voice), direct_mfcc(voice), rtol=1e-9, atol=1e-9)
    assert mel_bank().shape == (26, 257) and np.isfinite(mfcc(np.zeros(6400, np.float32))).all()


def test_cepstra_agree_with_the_published_package() -> None:
    package = pytest.importorskip("python_speech_features")
    voice = noise(25)
    samples = np.rint(voice.astype(np.float64) * 32768).astype(np.int16)
    np.testing.assert_allclose(mfcc(voice), package.mfcc(samples, 16000), rtol=1e-6)


@pytest.fixture(scope="module")
def net() -> SyncNet:
    """Of the right shapes, with random weights that keep signals alive."""
    torch.manual_seed(0)
    made = SyncNet()
    for part in made.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Conv3d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(part.weight)
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            part.running_mean.normal_()
    return made.eval()


def test_the_networks_parts_are_named_and_shaped_as_published(net: SyncNet) -> None:
    state = net.state_dict()
    shapes = {
        "netcnnaud.0.weight": (64, 1, 3, 3),
        "netcnnaud.4.weight": (192, 64, 3, 3),
        "netcnnaud.18.weight": (512, 256, 5, 4),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7),
        "netcnnlip.4.weight": (256, 96, 1, 5, 5),
        "netcnnlip.18.weight": (512, 256, 1, 6, 6),
        "netfclip.3.weight": (1024, 512),
        "netfcaud.0.weight": (512, 512),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert filled(old, Path("f")).netfclip[3].weight.equal(net.netfclip[3].weight)
    with pytest.raises(ModelMissing, match="is not SyncNet"):
        filled({"other": torch.zeros(1)}, Path("f"))
    with pytest.raises(ModelMissing, match="is not SyncNet"):
        filled({**old, "netfclip.3.weight": torch.zeros(3, 3)}, Path("f"))


def video(frames: int, size: int = 96) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, landmarks of a face that wanders, and where it is found."""
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 255, (frames, size, size, 3), np.uint8)
    points = rng.uniform(-20, 20, (478, 3))
    landmarks = (points + 48 + 4 * np.sin(np.arange(frames) / 5)[:, None, None]).astype(np.float32)
    present = np.ones(frames, bool)
    present[20:21] = False
    return pictures, landmarks, present


def distances(net: SyncNet, path: Path, frames: int, cuts: list[int], voice: np.ndarray) -> np.ndarray:
    torch.save(net.state_dict(), path)
    extractor = SyncNetDistances(path, torch.device("cpu"), "test")
    reading = extractor.begin(Shown(Case("c", "p0", "u", View.VIDEO, frames), Role.MADE, frames, voice))
    pictures, landmarks, present = video(frames)
    for start, stop in zip([0, *cuts], [*cuts, frames], strict=True):
        part = slice(start, stop)
        reading.feed(Chunk(start, pictures[part], landmarks[part], present[part]))
    return reading.finish()["syncnet.distances"]


def test_distances_agree_with_a_direct_loop(net: SyncNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One window after the other, as the published code goes through a video."""
    monkeypatch.setattr("training.evaluation.syncnet._BATCH", 6)  # so that this short one is gone through in parts
    frames, voice = 26, noise(26)
    found = distances(net, tmp_path / "net.pt", frames, [3, 16], voice)
    pictures, landmarks, present = video(frames)
    squares = squares_of(landmarks)
    steady = [np.median(squares[max(0, frame - 6) : frame + 7], axis=0) for frame in range(frames)]
    crops = [face_of(picture, square) for picture, square in zip(pictures, steady, strict=True)]
    sound = torch.from_numpy(mfcc(voice).T.astype(np.float32))
    with torch.no_grad():
        seen, heard = [], []
        for start in range(frames - 5):
            clip = torch.from_numpy(np.stack(crops[start : start + 5])).permute(3, 0, 1, 2).float()
            seen.append(net.watch(clip)[0])
            heard.append(net.hear(sound[None, None, :, 4 * start : 4 * start + 20])[0])
    for start in range(frames - 5):
        row = found[start + 2]
        if not present[start : start + 5].all():
            assert np.isnan(row).all()
            continue
        for shift in range(-15, 16):
            other = heard[start + shift] if 0 <= start + shift < len(heard) else torch.zeros(1024)
            expected = float(functional.pairwise_distance(seen[start][None], other[None]))
            assert row[shift + 15] == pytest.approx(expected, rel=1e-4)
    assert np.isnan(found[:2]).all() and np.isnan(found[-3:]).all()


def test_how_a_video_is_cut_changes_nothing(net: SyncNet, tmp_path: Path) -> None:
    voice = noise(18)
    whole, parts = (distances(net, tmp_path / "net.pt", 18, cuts, voice) for cuts in ([], [1, 2, 9, 15]))
    np.testing.assert_allclose(whole, parts, rtol=1e-5)


def test_a_video_shorter_than_a_window_has_no_distance(net: SyncNet, tmp_path: Path) -> None:
    assert np.isnan(distances(net, tmp_path / "net.pt", 5, [], noise(5))).all()


def test_the_crop_is_that_of_the_published_rule() -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[80:120, 80:120] = (10, 20, 30)
    cut = face_of(picture, np.array([100.0, 100.0, 20.0]))
    place = np.argwhere(cut[..., 2] == 10)  # red is last: BGR
    low, high = place.min(axis=0) / 4, (place.max(axis=0) + 1) / 4  # 4 pixels of the crop are one of the picture
    np.testing.assert_allclose(low, [0, 8], atol=0.5)
    np.testing.assert_allclose(high, [40, 48], atol=0.5)
    outside = face_of(picture, np.array([0.0, 0.0, 20.0]))
    assert (outside[0, 0] == 110).all()


def lse(seen: np.ndarray, heard: np.ndarray) -> tuple[float, float]:
    found = distances_of(torch.from_numpy(seen), torch.from_numpy(heard)).numpy()
    case = evidence({"syncnet.distances": found}, len(found))
    return value(LseC(), case), value(LseD(), case)


def test_sync_scores_are_best_in_time_and_fall_with_noise_and_other_voices() -> None:
    rng = np.random.default_rng(0)
    heard = rng.standard_normal((200, 64)).astype(np.float32)
    confidence, distance = lse(heard, heard)
    assert distance == pytest.approx(1e-6 * 8, rel=0.01)  # sqrt(64) millionths
    assert confidence == pytest.approx(np.sqrt(2 * 64), rel=0.03)
    worse = [lse(heard + grade * rng.standard_normal(heard.shape).astype(np.float32), heard) for grade in (0.0, 0.5, 1.0, 2.0)]
    assert (np.diff([each[0] for each in worse]) < 0).all() and (np.diff([each[1] for each in worse]) > 0).all()
    assert lse(np.roll(heard, 7, axis=0), heard)[0] == pytest.approx(confidence, rel=0.1)  # found at its shift
    assert lse(np.roll(heard, 20, axis=0), heard)[0] < 0.05 * confidence  # too far
    assert lse(heard[::-1].copy(), heard)[0] < 0.1 * confidence


def test_silence_is_not_scored() -> None:
    case = evidence({"syncnet.distances": np.ones((100, 31), np.float32)}, 100, loud=-6.0)
    assert LseC().sums(case, case.slices[ALL]) is None


def test_without_weights_the_scores_are_unavailable_and_told_how_to_be_had(tmp_path: Path) -> None:
    found = family(Choice(torch.device("cpu"), weights={"syncnet": tmp_path / "none"}))
    assert {one.name for one in found.unavailable} == {"lse-c", "lse-d"}
    assert found.unavailable[0].fix == "dyconv models pull syncnet"
    assert {metric.name for metric in found.metrics} == {
        f"sync.mouth_sync.{what}" for what in ("offset", "within_1", "confidence", "lag")
    }


@pytest.fixture(scope="module")
def talking(real_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and voice of the example of SyncNet's authors, whose network finds them 3 frames apart."""
    import av

    path = str(real_data / "heads" / "syncnet_fcn__test_offset_0.mp4")
    with av.open(path) as file:
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])[:250]
    with av.open(path) as file:
        samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)]).astype(np.float32)
    return pictures, samples[: len(pictures) * SAMPLES_PER_FRAME]


def vectors(pictures: np.ndarray, voice: np.ndarray) -> Evidence:
    reader = FaceReader()
    reading = MouthSyncVectors().begin(Shown(Case("c", "p0", "u", View.VIDEO, len(pictures)), Role.MADE, len(pictures), voice))
    for start in range(0, len(pictures), 64):
        part = pictures[start : start + 64]
        reading.feed(Chunk(start, part, *reader.feed(part)))
    return evidence(reading.finish(), len(pictures))


def test_the_own_network_finds_a_shift_of_real_lips(talking: tuple[np.ndarray, np.ndarray]) -> None:
    pictures, voice = talking
    case = vectors(pictures, voice)
    assert value(Offset(), case) == pytest.approx(3.0, abs=1.5) and value(Confidence(), case) > 0.5

    def moved(shift: int) -> Evidence:
        lips = np.roll(case.made["mouth_sync.lips"], shift, axis=0)
        return evidence({**case.made, "mouth_sync.lips": lips}, len(pictures))

    assert value(Offset(), moved(-4)) < 1.0 and value(WithinOne(), moved(-4)) == 1.0
    for shift in (4, -8, -12):
        assert value(Offset(), moved(shift)) == pytest.approx(abs(shift + 4), abs=1.0)
        assert value(Lag(), moved(shift)) == pytest.approx(-shift - 4, abs=1.0)  # lips that are later have an earlier voice
        assert value(WithinOne(), moved(shift)) == 0.0
    frozen = vectors(np.repeat(pictures[:1], len(pictures), axis=0), voice)
    assert value(Confidence(), frozen) < 0.5 * value(Confidence(), case)
    assert value(WithinOne(), frozen) == 0.0 and np.isnan(value(Offset(), frozen))  # lips that keep still are not in time
    quiet = evidence({**case.made, "mouth_sync.talking": np.zeros(len(pictures), np.float32)}, len(pictures))
    assert Offset().sums(quiet, quiet.slices[ALL]) is None
