"""What a dataset's pictures and talk are measured by: known answers, other implementations, and graded corruption."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from dyconv.media.video import VideoWriter
from dyconv.records import Clip, Key, Source
from dyconv.shards.sample import Sample
from dyconv.time import Span
from training.evaluation import quality, talk
from training.evaluation.bootstrap import total
from training.evaluation.case import ALL, Case, View
from training.evaluation.evidence import Chunk, Evidence, Role, Shown
from training.evaluation.metric import Choice, Metric
from training.evaluation.quality import FACE, Quality, block_steps, face_numbers, grid_strength
from training.evaluation.record import record_of
from training.evaluation.talk import EARLIEST, Floor
from training.evaluation.videos import open_video

CHOICE = Choice(torch.device("cpu"))
METRICS: Mapping[str, Metric] = {metric.name: metric for part in (quality, talk) for metric in part.family(CHOICE).metrics}
SIDE = 256


def photo() -> np.ndarray:
    """uint8 RGB [256, 256, 3] of a face."""
    from skimage import data

    return np.ascontiguousarray(np.asarray(data.astronaut())[0:256, 96:352])


def landmarks(count: int, low: float = 64.0, high: float = 192.0) -> np.ndarray:
    """Points that fill a square, float32 [count, 478, 3]."""
    points = np.random.default_rng(0).uniform(low, high, (478, 3)).astype(np.float32)
    points[0, :2], points[1, :2] = low, high
    return np.repeat(points[None], count, axis=0)


def evidence(
    pictures: np.ndarray,
    present: np.ndarray | None = None,
    record: Mapping[str, float] | None = None,
    masks: Mapping[str, np.ndarray] | None = None,
) -> Evidence:
    """What is read off a true video that comes in chunks of 5."""
    count = len(pictures)
    present = np.ones(count, bool) if present is None else present
    case = Case("clip", "p0", "source", View.VIDEO, count)
    reading = Quality().begin(Shown(case, Role.TRUTH, count, np.zeros(count * 640, np.float32)))
    points = landmarks(count)
    for start in range(0, count, 5):
        part = slice(start, start + 5)
        reading.feed(Chunk(start, pictures[part], points[part], present[part]))
    arrays = {**reading.finish(), "present": present}
    silence = np.zeros(count, np.float32)
    slices = {ALL: np.ones(count, bool), **(masks or {})}
    return Evidence(case, arrays, arrays, {}, {}, {}, silence, silence, slices, record or {})


def value(name: str, found: Evidence, mask: np.ndarray | None = None) -> float | None:
    sums = METRICS[name].sums(found, found.slices[ALL] if mask is None else mask)
    return None if sums is None else METRICS[name].value(sums)


def test_sharpness_brightness_and_contrast_agree_with_scipy() -> None:
    from scipy.ndimage import laplace

    luma = (photo().astype(np.float64) @ [0.299, 0.587, 0.114]).astype(np.float32)
    found = face_numbers(luma, landmarks(1)[0])
    face = luma[64:192, 64:192].astype(np.float64)
    assert face.shape == (FACE, FACE)  # so nothing is scaled
    assert found[0] == pytest.approx(laplace(face, mode="mirror").var(), rel=1e-4)
    assert found[1] == pytest.approx(face.mean(), rel=1e-5) and found[2] == pytest.approx(face.std(), rel=1e-5)
    assert found[3] == pytest.approx(0.5)


def test_flat_and_checkered_faces_are_known() -> None:
    flat = np.full((SIDE, SIDE), 90.0, np.float32)
    assert face_numbers(flat, landmarks(1)[0]).tolist() == [0.0, 90.0, 0.0, 0.5]
    rows, columns = np.mgrid[:SIDE, :SIDE]
    checkered = ((rows + columns) % 2 * 2.0 - 1.0).astype(np.float32)
    sharpness, brightness, contrast, _ = face_numbers(checkered, landmarks(1)[0])
    assert (sharpness, brightness, contrast) == pytest.approx((64.0, 0.0, 1.0))  # the Laplacian is 8 and -8 by turns


def test_sharpness_falls_with_blur_and_not_with_the_size_of_the_face() -> None:
    import cv2

    blurred = [photo()] + [cv2.GaussianBlur(photo(), (0, 0), sigma) for sigma in (0.7, 1.5, 3.0)]
    found = [value("quality.sharpness", evidence(np.stack([picture]))) for picture in blurred]
    assert found == sorted(found, reverse=True) and found[0] > 10 * found[-1]
    luma = (photo().astype(np.float32) @ np.float32([0.299, 0.587, 0.114])).astype(np.float32)
    large = cv2.resize(luma, (512, 512), interpolation=cv2.INTER_CUBIC)
    small, big = face_numbers(luma, landmarks(1)[0]), face_numbers(large, 2 * landmarks(1)[0])
    assert big[0] == pytest.approx(small[0], rel=0.5) and big[1:] == pytest.approx(small[1:], rel=0.02)


def test_light_and_contrast_move_the_right_way() -> None:
    pictures = [np.clip(photo() * gain, 0, 255).astype(np.uint8) for gain in (0.25, 0.5, 0.75)]
    for name in ("quality.brightness", "quality.contrast"):
        found = [value(name, evidence(np.stack([picture]))) for picture in pictures]
        assert found == sorted(found) and found[2] == pytest.approx(3 * found[0], rel=0.03)


def shown(path: Path, shifts: Sequence[int]) -> np.ndarray:
    """Frames of a pan over a picture, as they come out of H.264."""
    wide = np.concatenate([photo(), photo()[:, ::-1]], axis=1)
    with VideoWriter(path, SIDE, SIDE) as writer:
        for shift in shifts:
            writer.write(np.ascontiguousarray(wide[:, shift : shift + SIDE]))
    return np.concatenate(list(open_video(path, frames=len(shifts), where="pan").chunks(SIDE, 8)))


@pytest.mark.parametrize("every", [2, 4, 9])
def test_frozen_frames_are_counted_after_encoding(tmp_path: Path, every: int) -> None:
    shifts = [2 * (number - number // every) for number in range(30)]
    repeats = sum(one == other for one, other in pairwise(shifts))
    assert value("quality.frozen", evidence(shown(tmp_path / "pan.mp4", shifts))) == pytest.approx(repeats / 29)
    assert value("quality.frozen", evidence(shown(tmp_path / "even.mp4", range(30)))) == 0.0
    assert value("quality.frozen", evidence(np.stack([photo()] * 6))) == 1.0
    assert value("quality.frozen", evidence(photo()[None])) is None


def test_faces_that_are_not_there_are_left_out() -> None:
    present = np.array([True, False, True, False])
    pictures = np.stack([photo(), np.zeros_like(photo()), photo(), np.zeros_like(photo())])
    some, whole = evidence(pictures, present), evidence(np.stack([photo()]))
    assert value("quality.present", some) == 0.5
    assert value("quality.brightness", some) == pytest.approx(value("quality.brightness", whole))
    assert value("quality.sharpness", some, ~present) is None


def test_width_of_the_face_is_in_pixels_of_the_source() -> None:
    assert value("quality.face_px", evidence(np.stack([photo()]))) is None
    assert value("quality.face_px", evidence(np.stack([photo()]), record={"crop_px": 300.0})) == pytest.approx(150.0)


@pytest.mark.parametrize("source", [160, 256, 340])
def test_blockiness_rises_with_compression_before_the_scaling(source: int) -> None:
    """The source is compressed at its own size and then scaled to the crop's, so that its blocks are no 8 pixels any more."""
    import cv2
    from PIL import Image

    small = Image.fromarray(photo()).resize((source, source), Image.Resampling.LANCZOS)
    found = []
    for strength in (None, 40, 10):
        picture = small
        if strength is not None:
            packed = io.BytesIO()
            small.save(packed, "JPEG", quality=strength)
            picture = Image.open(packed)
        scaled = cv2.resize(np.asarray(picture), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        found.append(value("quality.blockiness", evidence(np.stack([scaled]), record={"crop_px": float(source)})))
    assert max(found[:2]) < found[2] and found[0] < 2.0 and found[2] > 3.0


def test_grid_strength_is_known_and_only_of_grids_that_can_be_seen() -> None:
    step = np.zeros((64, 64), np.float32)
    step[:, 32:] = 10.0
    columns, rows = block_steps(step)
    assert columns.argmax() == 30 and columns.max() == 10.0 and not rows.any()
    places = np.arange(253)
    amplitude, around = grid_strength(np.tile(np.cos(2 * np.pi * places / 11.3), (2, 1)), 11.3) or (0, 0)
    assert amplitude == pytest.approx(np.hanning(253).sum() / 2, rel=0.01) and amplitude > 20 * around
    noise = np.random.default_rng(0).normal(size=(2, 253))
    amplitude, around = grid_strength(noise, 11.3) or (0, 1)
    assert 0.2 < amplitude / around < 3.0
    assert grid_strength(noise, 2.0) is None and grid_strength(noise, 60.0) is None


def test_blockiness_is_of_whole_clips() -> None:
    found = evidence(np.stack([photo()] * 4), record={"crop_px": 256.0})
    assert value("quality.blockiness", found) is not None
    assert value("quality.blockiness", found, np.array([True, True, False, False])) is None
    assert value("quality.blockiness", evidence(np.stack([photo()]))) is None


def test_levels_are_averaged_by_their_energy_and_by_how_long_they_were_heard() -> None:
    from dyconv.score_voices import mean_energy_db

    states = ("state=listening", "state=both")
    parts = [
        evidence(np.stack([photo()] * count), record=record, masks={name: np.arange(count) < heard for name in states})
        for count, heard, record in (
            (40, 30, {"bleed_db": -10.0, "si_sdr_est_db": 8.0}),
            (20, 15, {"bleed_db": -40.0, "si_sdr_est_db": 14.0}),
            (20, 2, {"bleed_db": 21.0, "si_sdr_est_db": -30.0}),  # two frames tell nothing
            (20, 20, {}),
        )
    ]
    for name, wanted in (("quality.bleed", mean_energy_db([-10.0, -40.0], [30, 15])), ("quality.si_sdr_est", 10.0)):
        found = [METRICS[name].sums(part, part.slices[ALL]) for part in parts]
        assert found[2] is None and found[3] is None
        assert METRICS[name].value(total([sums for sums in found if sums is not None])) == pytest.approx(wanted)


def spoken(
    frames: int, own: list[tuple[int, int]], partner: list[tuple[int, int]], unknown: tuple[int, int] = (0, 0)
) -> Evidence:
    """Evidence of a clip in which people speak in these frames."""
    masks = [np.zeros(frames, bool) for _ in range(2)]
    for mask, spans in zip(masks, (own, partner), strict=True):
        for start, end in spans:
            mask[start:end] = True
    one, other = masks
    nobody = ~one & ~other
    nobody[slice(*unknown)] = False
    states = {"speaking": one & ~other, "listening": other & ~one, "both": one & other, "silent": nobody}
    slices = {ALL: np.ones(frames, bool), **{f"state={name}": mask for name, mask in states.items() if mask.any()}}
    silence = np.zeros(frames, np.float32)
    return Evidence(Case("clip", "p0", "source", View.VIDEO, frames), {}, {}, {}, {}, {}, silence, silence, slices)


def test_talk_of_a_known_conversation() -> None:
    """One minute: partner 0-10 s, own 10.4-20 s, partner 19-30 s with a backchannel at 25 s, own 32-40 s."""
    own = [(260, 500), (625, 637), (800, 1000)]
    found = spoken(1500, own, [(0, 250), (475, 750)])
    assert value("talk.speaking", found) == pytest.approx((240 + 12 + 200) / 1500)
    assert value("talk.overlap", found) == pytest.approx((25 + 12) / 1500)
    assert value("talk.silence", found) == pytest.approx((10 + 50 + 500) / 1500)
    assert value("talk.turns", found) == 3.0
    assert value("talk.backchannels", found) == pytest.approx(1 / (525 / 25 / 60))
    assert Floor.of(found.slices, 1500).responses == [(260, 10), (800, 50)]
    assert value("talk.response", found) == pytest.approx((0.4 + 2.0) / 2)


def test_the_partners_view_of_the_same_conversation() -> None:
    own, partner = [(260, 500), (625, 637), (800, 1000)], [(0, 250), (475, 750)]
    found = spoken(1500, partner, own)
    assert Floor.of(found.slices, 1500).responses == [(475, -25)]  # it begins a second before the other ends
    assert value("talk.response", found) == -1.0 and value("talk.backchannels", found) == 0.0


def test_pauses_belong_to_turns_and_short_sounds_make_none() -> None:
    found = spoken(600, [(0, 50), (60, 100), (120, 123), (300, 350)], [])
    assert Floor.of(found.slices, 600).turns[0] == [(0, 100), (300, 350)]
    assert value("talk.turns", found) == pytest.approx(2 * 1500 / 600)


def test_shares_agree_with_pyannote() -> None:
    from pyannote.core import Segment, Timeline

    rng = np.random.default_rng(3)
    sides = []
    for _ in range(2):
        ends = np.cumsum(rng.integers(3, 90, 40))
        sides.append([(int(start), int(end)) for start, end in zip(ends[::2], ends[1::2], strict=True) if end < 1500])
    found = spoken(1500, *sides)
    own, partner = (Timeline([Segment(*span) for span in spans]).support() for spans in sides)
    both = own.crop(partner, mode="intersection").duration()
    either = Timeline([*own, *partner]).support().duration()
    assert value("talk.speaking", found) == pytest.approx(own.duration() / 1500, rel=1e-9)
    assert value("talk.overlap", found) == pytest.approx(both / 1500, rel=1e-9)
    assert value("talk.silence", found) == pytest.approx(1 - either / 1500, rel=1e-9)


@pytest.mark.parametrize("count", [1, 2, 7, 10])
def test_the_median_of_added_histograms_is_the_median_of_all(count: int) -> None:
    offsets = np.random.default_rng(count).integers(EARLIEST, 60, count)
    metric = METRICS["talk.response"]
    size = len(metric.sums(spoken(500, [(100, 300)], [(0, 90)]), np.ones(500, bool))["offsets"])  # type: ignore[index]
    counts = sum(np.eye(size)[offset - EARLIEST] for offset in offsets)
    assert metric.value({"offsets": np.asarray(counts)}) == pytest.approx(np.median(offsets) / 25)


def test_later_answers_and_more_overlap_are_seen() -> None:
    later = [value("talk.response", spoken(1000, [(400 + shift, 800)], [(0, 400)])) for shift in (-20, 0, 20, 60)]
    assert later == pytest.approx([-0.8, 0.0, 0.8, 2.4])
    overlap = [value("talk.overlap", spoken(1000, [(500 - more, 1000)], [(0, 500)])) for more in (0, 100, 300)]
    assert overlap == [0.0, 0.1, 0.3]


def test_what_nobody_decided_does_not_count() -> None:
    undecided = spoken(100, [(0, 50)], [], unknown=(50, 100))
    assert value("talk.speaking", undecided) == 1.0 and value("talk.silence", undecided) == 0.0
    nothing = spoken(100, [], [], unknown=(0, 100))
    assert all(value(name, nothing) is None for name in METRICS if name.startswith("talk."))
    assert value("talk.backchannels", undecided) is None  # nobody to answer


@pytest.mark.skipif("DYCONV_REAL_DATA" not in os.environ, reason="DYCONV_REAL_DATA names no folder of clips")
def test_real_faces_lose_quality_step_by_step() -> None:
    """On a real clip: sharpness under blur, brightness under dimming."""
    import av
    import cv2

    folder = Path(os.environ["DYCONV_REAL_DATA"])
    clip = next(path for path in sorted(folder.rglob("*.mp4")) if path.stat().st_size < 20_000_000)
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for _, frame in zip(range(3), container.decode(video=0), strict=False)]
    side = min(frames[0].shape[:2])
    pictures = np.stack([cv2.resize(frame[:side, :side], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames])
    blurred = [np.stack([cv2.GaussianBlur(picture, (0, 0), amount) for picture in pictures]) for amount in (0.5, 1.0, 2.0, 4.0)]
    found = [value("quality.sharpness", evidence(part)) for part in (pictures, *blurred)]
    assert found == sorted(found, reverse=True)
    dimmed = [value("quality.brightness", evidence((pictures * gain).astype(np.uint8))) for gain in (1.0, 0.6, 0.3)]
    assert dimmed == sorted(dimmed, reverse=True)


def test_the_record_is_told_for_the_person_whose_case_it_is() -> None:
    measures = {
        "p0.bleed_db": -20.5,
        "p1.bleed_db": -31.0,
        "p1.overlap_share": None,
        "av_offset_s": 0.02,
        "clean.method": "copy",
    }
    clip = Clip("c", Source("s", "file:///s.mp4"), Span(Fraction(0), Fraction(2)), measures=measures)
    crop = io.BytesIO()
    np.savez(crop, box=np.array([10, 20, 310, 320], np.float32))
    sample = Sample(clip, {Key.P0_CROP: crop.getvalue()}, "clips-000000.tar")
    assert record_of(sample, "p0") == {"bleed_db": -20.5, "av_offset_s": 0.02, "crop_px": 300.0}
    assert record_of(sample, "p1") == {"bleed_db": -31.0, "av_offset_s": 0.02}
