"""Clips of one person: whose the speech is, what is refused, and that their shards read like those of conversations."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from typer.testing import CliRunner

from dyconv.arrays import load_arrays
from dyconv.cli import build as command_line
from dyconv.faces import POINTS, FaceArrays, save_faces
from dyconv.media.audio import read_audio, write_audio
from dyconv.media.video import VideoWriter
from dyconv.models.lip_motion import LipMotion
from dyconv.models.mesh_basis import canonical
from dyconv.models.slots import AvOffset, FaceTrack
from dyconv.recipe import Recipe
from dyconv.records import Clip, Drop, DropReason, Key, Person, Track
from dyconv.runner import RunOptions
from dyconv.runner import run as run_recipe
from dyconv.shards import check, open_shards
from dyconv.speech.turns import activity
from dyconv.stages.alone import Alone
from dyconv.stages.base import Files, Stage, check_contract
from dyconv.stages.crop import Crop
from dyconv.stages.normalize import Normalize
from dyconv.stages.scenes import Scenes
from dyconv.store import Store
from dyconv.time import FPS, Span, frame_samples
from pipelines.heads import RECIPE as HEADS
from tests.mediagen import Bench, make_media
from tests.speech_scenes import Speech, opening_of, telephone, write_segment

WHOLE = [(0.0, 30.0, "t")]
P0, P1 = Person("p0", "t", True, True), Person("p1", None, False, False)


@pytest.fixture(scope="module")
def talk() -> Speech:
    return telephone()


@pytest.fixture(scope="module")
def mouths(talk: Speech) -> dict[str, np.ndarray]:
    """`t` talks whenever anything is heard, `a` in its own turns, `s` keeps still."""
    everything = talk.spoken["a"] | talk.spoken["b"]
    return {
        "t": opening_of(talk.samples, everything),
        "a": opening_of(talk.samples, talk.spoken["a"]),
        "s": np.full(talk.frames, 0.01),
    }


class Shifted(LipMotion):
    """Lip motion that also claims to know a shift."""

    def __init__(self, frames: float, confidence: float) -> None:
        self.found = AvOffset(frames, confidence)

    def offset(self, track: FaceTrack, samples: np.ndarray, speech: np.ndarray) -> AvOffset | None:
        return self.found


def run(
    folder: Path,
    talk: Speech,
    shots: Sequence[tuple[float, float, str]],
    mouths: Mapping[str, np.ndarray],
    *,
    lips: LipMotion | None = None,
    **fields: Any,
) -> tuple[Clip | Drop, dict[str, np.ndarray]]:
    """What the stage makes of simulated faces over a telephone conversation, and SPEECH."""
    clip, files = write_segment(folder, talk, shots, mouths)
    stage = Alone(**{"active_speaker": "lip_motion", **fields})
    stage.setup()
    if lips is not None:
        object.__setattr__(stage, "_lips", lips)
    (output,) = outputs = list(stage.process(clip, files))
    check_contract(stage, clip, outputs)
    speech = load_arrays(files.path(output, Key.SPEECH)) if isinstance(output, Clip) else {}
    for row in speech.values():
        assert row.dtype == np.float32 and row.shape == (talk.frames,) and row.min() >= 0 and row.max() <= 1
    return output, speech


def kept(output: Clip | Drop) -> Clip:
    assert isinstance(output, Clip), f"{output.reason}: {output.detail}"
    return output


def share(clip: Clip, person: int, spoken: np.ndarray) -> float:
    """Share of the frames of reference speech that are this person's."""
    return float(activity(clip.turns, clip.frames)[person][spoken].mean())


def test_who_is_alone_says_all_that_is_heard(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    output, speech = run(tmp_path, talk, WHOLE, mouths, partner=True)
    clip = kept(output)
    assert clip.people == (P0, P1)
    assert {track.person for track in clip.tracks} == {"p0"}
    assert share(clip, 0, talk.spoken["a"] | talk.spoken["b"]) > 0.9 and share(clip, 1, talk.spoken["b"]) == 0
    assert set(speech) == {"vad", "p0", "p1", "unsure"} and not speech["p1"].any()
    assert clip.measures["people.abstain_share"] == 0 and float(clip.measures["people.lip_margin"] or 0) > 1


def test_two_people_on_screen_are_refused(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    both, _ = run(tmp_path / "both", talk, [(0.0, 30.0, "ts")], mouths)
    assert isinstance(both, Drop) and both.reason is DropReason.FACES_NOT_TWO
    assert "expected one person" in both.detail and "s for 30.0 s" in both.detail, both.detail
    passing = [(0.0, 29.0, "t"), (29.0, 30.0, "ts")]
    output, _ = run(tmp_path / "passing", talk, passing, mouths)
    clip = kept(output)
    assert clip.measures["people.others_seen"] == pytest.approx(1 / 30, abs=0.002)
    assert {track.identity: track.person for track in clip.tracks} == {"t": "p0", "s": None}
    strict, _ = run(tmp_path / "strict", talk, passing, mouths, max_others_seen=0.0)
    assert isinstance(strict, Drop) and strict.reason is DropReason.FACES_NOT_TWO


def test_each_shot_has_its_own_p0(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    """An appearance descriptor may take one person, seen by two cameras, for two."""
    output, _ = run(tmp_path, talk, [(0.0, 12.0, "t"), (12.0, 30.0, "a")], {**mouths, "a": mouths["t"]})
    clip = kept(output)
    assert {track.person for track in clip.tracks} == {"p0"} and clip.person("p0").identity == "a"
    assert {track.identity for track in clip.tracks} == {"t", "a"} and clip.measures["people.others_seen"] == 0
    assert share(clip, 0, talk.spoken["a"] | talk.spoken["b"]) > 0.9


def test_a_voice_over_still_lips_is_nobodys_or_the_partners(
    tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]
) -> None:
    everything = talk.spoken["a"] | talk.spoken["b"]
    shots = [(0.0, 30.0, "s")]
    output, speech = run(tmp_path / "nobody", talk, shots, mouths, min_heard_s=0.0)
    clip = kept(output)
    assert not any(person.heard for person in clip.people) and {turn.person for turn in clip.turns} == {None}
    assert float(clip.measures["people.abstain_share"] or 0) == 1.0 and speech["unsure"][everything].mean() > 0.8
    output, speech = run(tmp_path / "partner", talk, shots, mouths, min_heard_s=0.0, partner=True)
    clip = kept(output)
    assert [person.heard for person in clip.people] == [False, True] and not clip.person("p1").seen
    assert share(clip, 1, everything) > 0.9 and speech["p1"][everything].mean() > 0.8
    assert not speech["p0"].any() and clip.measures["people.abstain_share"] == 0
    refused, _ = run(tmp_path / "refused", talk, shots, mouths, min_heard_s=0.0, max_abstain=0.5)
    assert isinstance(refused, Drop) and refused.reason is DropReason.ATTRIBUTION_UNSURE
    unheard, _ = run(tmp_path / "unheard", talk, shots, mouths, partner=True)
    assert isinstance(unheard, Drop) and unheard.reason is DropReason.NOT_DYADIC and "found 0.0 s" in unheard.detail


def test_somebody_off_screen_asks_and_is_answered(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    output, _ = run(tmp_path, talk, [(0.0, 30.0, "a")], mouths, partner=True)
    clip = kept(output)
    own, other = talk.spoken["a"] & ~talk.spoken["b"], talk.spoken["b"] & ~talk.spoken["a"]
    assert share(clip, 0, own) > 0.8 and share(clip, 1, own) < 0.1
    assert share(clip, 1, other) > 0.6 and share(clip, 0, other) < 0.3


def test_a_voice_that_no_shift_makes_fit_moving_lips_is_nobodys(
    tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]
) -> None:
    fields = {"min_sync_confidence": 0.3, "max_offset_frames": 3.0, "min_heard_s": 0.0, "partner": True}
    dub, speech = run(tmp_path / "dub", talk, WHOLE, mouths, lips=Shifted(7.0, 0.1), **fields)
    clip = kept(dub)
    assert clip.turns and all(turn.person is None and turn.unsure for turn in clip.turns)
    assert not any(person.heard for person in clip.people) and not speech["p0"].any() and speech["unsure"].max() > 0.9
    believed, _ = run(tmp_path / "believed", talk, WHOLE, mouths, lips=Shifted(0.2, 0.9), **fields)
    assert kept(believed).people == (P0, P1) and kept(believed).measures["people.sync_confidence"] == 0.9
    late, _ = run(tmp_path / "late", talk, WHOLE, mouths, lips=Shifted(7.0, 0.9), **fields)
    assert isinstance(late, Drop) and late.reason is DropReason.OUT_OF_SYNC and "+7.0 frames" in late.detail


def test_without_an_active_speaker_model_all_speech_is_theirs(
    tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]
) -> None:
    output, _ = run(tmp_path, talk, [(0.0, 30.0, "s")], mouths, active_speaker="")
    assert kept(output).person("p0").heard and Alone(active_speaker="").models() == ("silero",)
    assert share(kept(output), 0, talk.spoken["a"] | talk.spoken["b"]) > 0.9


def test_a_source_without_sound_becomes_silence_where_that_is_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    made = {
        "none": make_media(tmp_path / "none.mp4", duration=1.2, size=(64, 48), audio=None),
        "quiet": make_media(tmp_path / "quiet.mp4", duration=1.2, size=(64, 48), silent=True),
    }
    for media in made.values():
        (segment,) = bench.kept(Scenes(), bench.source(media.path))
        (clip,) = bench.kept(Normalize(silent=True), segment)
        mix = read_audio(bench.path(clip, Key.MIX))
        assert len(mix) == frame_samples(clip.frames) and np.abs(mix).max() < 1e-3


@dataclass(frozen=True)
class Drawn(Stage):
    """In place of everything up to `tracks`: a drawn face that says what is heard for eight seconds, or keeps still."""

    name: ClassVar[str] = "drawn"
    gives: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.MIX, Key.FACES})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        talk = telephone()
        frames, begin = 8 * FPS, 8 * FPS  # hardly anything is said before
        samples = talk.samples[frame_samples(begin) : frame_samples(begin + frames)]
        opening = opening_of(samples, (talk.spoken["a"] | talk.spoken["b"])[begin : begin + frames])
        opening *= clip.id != "listener"
        faces = drawn_face(opening)
        video, mix, arrays = (files.new(clip, key) for key in (Key.VIDEO, Key.MIX, Key.FACES))
        with VideoWriter(video, 240, 240) as writer:
            for number in range(frames):
                writer.write(np.full((240, 240, 3), 90 + number % 60, np.uint8))
        write_audio(mix, samples)
        save_faces(arrays, {"t0": faces})
        span = Span.of_frames(0, frames)
        shown = replace(
            clip, span=span, shots=(span,), layout="single", tracks=(Track("t0", 0, 0, frames, 110.0, 1.0, identity="i0"),)
        )
        yield files.add(shown, (Key.VIDEO, video), (Key.MIX, mix), (Key.FACES, arrays))


def drawn_face(opening: np.ndarray) -> FaceArrays:
    """The mesh's own canonical face, nodding a little, its mouth open by `opening` [T] eye distances."""
    frames = len(opening)
    points = np.zeros((frames, POINTS, 3))
    points[:, :468] = canonical()
    lower = [14, 87, 317, 178, 402, 152]
    points[:, lower, 1] += opening[:, None]
    nod = 0.05 * np.sin(np.arange(frames) / 9)[:, None]
    points[..., 1], points[..., 2] = points[..., 1] - nod * points[..., 2], points[..., 2] + nod * points[..., 1]
    points = points * 80 + np.array([120, 120, 0]) + np.random.default_rng(3).normal(0, 0.1, points.shape)
    boxes = np.concatenate([points[:, :468, :2].min(axis=1), points[:, :468, :2].max(axis=1)], axis=1)
    return FaceArrays(
        np.arange(frames, dtype=np.int32), boxes.astype(np.float32), np.ones(frames, np.float32), points.astype(np.float32)
    )


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed build of a talker and a listener by the recipe's own stages from `alone` on."""
    stages = [replace(stage, size=64) if isinstance(stage, Crop) else stage for stage in HEADS.stages[5:]]
    lips = replace(stages[0], active_speaker="lip_motion")  # no network knows a drawn face
    recipe = Recipe("drawn", "Drawn faces over real speech.", (Drawn(), lips, *stages[1:]), pack=HEADS.pack)
    folder = tmp_path_factory.mktemp("alone")
    manifest = folder / "m.csv"
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["id", "url", "licence"], *([name, f"/{name}.mp4", "own"] for name in ("talker", "listener"))]
        )
    run_recipe(recipe, manifest, str(folder / "out"), RunOptions(backend="local", workers=0))
    return folder / "out"


def test_packed_shards_have_what_a_trainer_needs(build: Path) -> None:
    samples = {sample.clip.source.id: sample for sample in open_shards(str(build))}
    assert set(samples) == {"talker", "listener"}
    for sample in samples.values():
        frames = sample.clip.frames
        assert sample.clip.person("p0").seen and not sample.clip.person("p1").seen
        assert sample.frames("p0.face.mp4", 0, 2).shape == (2, 64, 64, 3) and sample.frame_count("p0.face.mp4") == frames
        crop, motion = sample.arrays("p0.crop.npz"), sample.arrays("p0.motion.npz")
        assert crop["landmarks"].shape == (frames, POINTS, 3) and crop["present"].all()
        assert motion["latents"].shape[0] == frames and np.isfinite(motion["latents"]).all()
        assert "p1.face.mp4" not in sample and "p1.motion.npz" not in sample
        for person in ("p0", "p1"):
            assert len(sample.audio(f"{person}.voice.flac")) == frame_samples(frames)
    own, silence = (samples["talker"].audio(f"{person}.voice.flac") for person in ("p0", "p1"))
    mix = samples["talker"].audio("mix.flac")
    spoken = activity(samples["talker"].clip.turns, len(own) // 640)[0] > 0
    assert np.corrcoef(own, mix)[0, 1] > 0.95 and spoken.mean() > 0.5 and not silence.any()
    quiet, partner = (samples["listener"].audio(f"{person}.voice.flac") for person in ("p0", "p1"))
    assert not quiet.any() and np.abs(partner).max() > 0.05


def test_the_build_checks_and_is_shown(build: Path, tmp_path: Path) -> None:
    assert check(Store(str(build)), deep=True).ok
    (clip, *_) = [sample.id for sample in open_shards(str(build))]
    shown = CliRunner().invoke(command_line(), ["show", clip, "--out", str(build), "--save", str(tmp_path / "a.png")])
    assert shown.exit_code == 0 and (tmp_path / "a.png").stat().st_size > 10_000
    reported = CliRunner().invoke(command_line(), ["report", str(build)])
    assert reported.exit_code == 0, reported.output


def test_real_heads_are_prepared(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip whose sound is a file of its own, and one without sound, through the command that makes the training data."""
    from training.corpora import Head
    from training.infp import prepare

    folder = real_data / "heads"
    heads = [
        Head("styletalk__feifeili_clip3", folder / "styletalk__feifeili_clip3.mp4", folder / "styletalk__feifeili_clip3.wav"),
        Head("mute", folder / "styletalk__spata_clip1.mp4", folder / "styletalk__spata_clip1.mp4"),
    ]
    if not all(head.video.exists() and head.sound.exists() for head in heads):
        pytest.skip("these clips are not among the real media")
    monkeypatch.setattr(prepare, "heads", lambda held_out: heads)
    assert prepare.prepare(tmp_path, ["train"], workers=0) == 0
    samples = {sample.clip.source.id: sample for sample in open_shards(str(tmp_path / "train"))}
    talker, mute = samples["styletalk__feifeili_clip3"], samples["styletalk__spata_clip1"]
    assert talker.clip.person("p0").heard and float(talker.clip.measures["people.sync_confidence"] or 0) > 0.5
    assert np.abs(talker.audio("p0.voice.flac")).max() > 0.05 and not talker.audio("p1.voice.flac").any()
    assert not mute.clip.person("p0").heard and not mute.audio("p0.voice.flac").any()
    assert mute.frames("p0.face.mp4", 0, 1).shape == (1, 512, 512, 3)
    assert check(Store(str(tmp_path / "train"))).ok
