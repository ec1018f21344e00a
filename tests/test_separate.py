"""The separate stage: voices as long as the mix, nothing changed where one speaks alone, bleed and overlap measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyconv.arrays import save_arrays
from dyconv.errors import StoreError
from dyconv.media.audio import read_audio, write_audio
from dyconv.records import Clip, Drop, DropReason, Key, Source, Turn
from dyconv.stages.base import Files, check_contract
from dyconv.stages.separate import Separate
from dyconv.store import Store
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME, Span, frame_samples

FRAMES = 100
TURNS = (
    Turn("p0", Span.of_frames(0, 40), 0.9),
    Turn("p1", Span.of_frames(30, 70), 0.9),
    Turn(None, Span.of_frames(80, 100), 0.5, True),
)


def segment(folder: Path, turns: tuple[Turn, ...] = TURNS, *, doubt: float = 0.0) -> tuple[Clip, Files, np.ndarray]:
    """A 4 s clip of noise with these turns; `doubt` is the probability that a lone speaker was the partner."""
    clip = Clip(
        "talk_00000000_00004000",
        Source("talk", "file:///talk.mp4", licence="CC0-1.0"),
        Span(Fraction(0), Fraction(FRAMES, 25)),
        turns=turns,
    )
    (folder / "scratch").mkdir(parents=True)
    files = Files(Store(folder / "store"), "work/talk", folder / "scratch")
    samples = np.random.default_rng(5).uniform(-0.9, 0.9, frame_samples(FRAMES)).astype(np.float32)
    spoken = np.zeros((2, FRAMES), np.float32)
    for turn in turns:
        if turn.person:
            spoken[int(turn.person[1]), turn.span.frames.start : turn.span.frames.stop] = 1.0
    lone = spoken.sum(axis=0) == 1
    chance = np.where(lone, np.where(spoken > 0, 1 - doubt, doubt), spoken).astype(np.float32)
    mix, speech = files.new(clip, Key.MIX), files.new(clip, Key.SPEECH)
    write_audio(mix, samples)
    empty = np.zeros(FRAMES, np.float32)
    save_arrays(speech, {"vad": spoken.max(axis=0), "p0": chance[0], "p1": chance[1], "unsure": empty})
    return files.add(clip, (Key.MIX, mix), (Key.SPEECH, speech)), files, read_audio(mix)


def run(stage: Separate, clip: Clip, files: Files) -> Clip | Drop:
    stage.setup()
    outputs = list(stage.process(clip, files))
    check_contract(stage, clip, outputs)
    return outputs[0]


def test_voices_are_the_mix_where_their_owner_speaks(tmp_path: Path) -> None:
    clip, files, mix = segment(tmp_path)
    out = run(Separate(separator="turn_gate"), clip, files)
    assert isinstance(out, Clip)
    voices = [read_audio(files.path(out, key)) for key in (Key.P0_VOICE, Key.P1_VOICE)]
    assert all(len(voice) == len(mix) for voice in voices)
    alone = slice(0, frame_samples(30))
    assert (voices[0][alone] == mix[alone]).all() and not voices[1][alone].any()
    overlap = slice(frame_samples(31), frame_samples(39))
    assert (voices[0][overlap] == mix[overlap]).all() and (voices[1][overlap] == mix[overlap]).all()
    undecided = slice(frame_samples(80), frame_samples(100))
    assert not voices[0][undecided].any() and not voices[1][undecided].any()


def test_measures(tmp_path: Path) -> None:
    clip, files, _ = segment(tmp_path, doubt=0.01)
    out = run(Separate(separator="turn_gate"), clip, files)
    assert isinstance(out, Clip)
    assert out.measures["p0.overlap_share"] == out.measures["p1.overlap_share"] == 0.25
    # Equal turns and levels: 1 % of 30 frames of p0 alone against 99 % of 30 frames of p1 alone.
    assert out.measures["p0.bleed_db"] == pytest.approx(10 * np.log10(0.01 / 0.99), abs=0.5)
    method = str(out.measures["p0.voice_method"])
    assert method.startswith("turn_gate") and "both voices are the mix in 9" in method


def test_same_input_same_bytes(tmp_path: Path) -> None:
    assets = []
    for attempt in ("a", "b"):
        clip, files, _ = segment(tmp_path / attempt)
        out = run(Separate(separator="turn_gate"), clip, files)
        assert isinstance(out, Clip)
        assets.append(dict(out.assets))
    assert assets[0] == assets[1]


def test_nobody_speaks_in_the_clip(tmp_path: Path) -> None:
    clip, files, mix = segment(tmp_path, ())
    out = run(Separate(separator="turn_gate", max_bleed_db=-20.0, max_overlap_share=0.1), clip, files)
    assert isinstance(out, Clip)
    assert out.measures["p0.bleed_db"] is None and out.measures["p0.overlap_share"] == 0.0
    voice = read_audio(files.path(out, Key.P0_VOICE))
    assert len(voice) == len(mix) and not voice.any()


@pytest.mark.parametrize("limits", [{"max_bleed_db": -30.0}, {"max_overlap_share": 0.2}])
def test_limits_refuse(tmp_path: Path, limits: dict[str, Any]) -> None:
    clip, files, _ = segment(tmp_path, doubt=0.01)
    out = run(Separate(separator="turn_gate", **limits), clip, files)
    assert isinstance(out, Drop) and out.reason is DropReason.SEPARATION_POOR
    assert "expected at most" in out.detail and "p0" in out.detail


def test_a_mix_shorter_than_its_frames_is_still_gated(tmp_path: Path) -> None:
    clip, files, mix = segment(tmp_path)
    short = files.new(replace(clip, id="short"), Key.MIX)
    write_audio(short, mix[: -SAMPLES_PER_FRAME // 2])
    clip = files.add(clip, (Key.MIX, short))
    out = run(Separate(separator="turn_gate"), clip, files)
    assert isinstance(out, Clip)
    assert len(read_audio(files.path(out, Key.P0_VOICE))) == len(mix) - SAMPLES_PER_FRAME // 2


def with_sounds(clip: Clip, files: Files, **sounds: np.ndarray) -> Clip:
    """The clip with more sound assets, by the names of their keys."""
    for name, samples in sounds.items():
        path = files.new(clip, Key[name])
        write_audio(path, samples)
        clip = files.add(clip, (Key[name], path))
    return clip


def test_voices_come_from_the_clean_sound_where_there_is_one(tmp_path: Path) -> None:
    clip, files, mix = segment(tmp_path)
    clip = with_sounds(clip, files, CLEAN=0.5 * mix)
    out = run(Separate(separator="turn_gate"), clip, files)
    assert isinstance(out, Clip)
    alone = slice(0, frame_samples(30))
    clean = read_audio(files.path(out, Key.CLEAN))
    assert (read_audio(files.path(out, Key.P0_VOICE))[alone] == clean[alone]).all() and clean[alone].any()


@pytest.mark.parametrize(("told", "first"), [("p0=0,p1=1", 0), ("p0=1,p1=0", 1)])
def test_one_person_a_channel_is_used_as_it_is(tmp_path: Path, told: str, first: int) -> None:
    clip, files, mix = segment(tmp_path)
    channels = np.stack([mix, 0.25 * mix[::-1]])
    clip = with_sounds(clip, files, CHANNELS=channels).measured(people__channels=told)
    out = run(Separate(), clip, files)
    assert isinstance(out, Clip)
    written = np.stack([read_audio(files.path(out, key)) for key in (Key.P0_VOICE, Key.P1_VOICE)])
    assert np.abs(written - channels[[first, 1 - first]]).max() <= 1 / 32768
    assert str(out.measures["p0.voice_method"]).startswith("channel")
    assert out.measures["p0.si_sdr_est_db"] is None and out.measures["p0.bleed_db"] is not None


def test_channels_that_hold_no_person_each_are_not_used(tmp_path: Path) -> None:
    clip, files, mix = segment(tmp_path)
    clip = with_sounds(clip, files, CHANNELS=np.stack([mix, mix])).measured(people__channels=None)
    out = run(Separate(separator="turn_gate"), clip, files)
    assert isinstance(out, Clip) and str(out.measures["p0.voice_method"]).startswith("turn_gate")


def test_what_people_told_of_channels_must_make_sense(tmp_path: Path) -> None:
    clip, files, mix = segment(tmp_path)
    clip = with_sounds(clip, files, CHANNELS=np.stack([mix, mix])).measured(people__channels="left")
    with pytest.raises(StoreError, match=r"expected people\.channels to be one of p0=0,p1=1"):
        run(Separate(separator="turn_gate"), clip, files)


class ByPitch:
    """A separator that remembers what it was given, and parts sound at 1 kHz."""

    method = "by pitch"

    def __init__(self) -> None:
        self.enrolled: list[list[np.ndarray]] = []

    def separate(self, mix: np.ndarray, activity: np.ndarray, enrolment: Sequence[np.ndarray] = ()) -> np.ndarray:
        self.enrolled.append(list(enrolment))
        spectrum = np.fft.rfft(mix)
        low = np.fft.rfftfreq(len(mix), 1 / SAMPLE_RATE) < 1000
        voices = np.stack([np.fft.irfft(spectrum * part, len(mix)) for part in (low, ~low)])
        return (voices * np.repeat(activity, SAMPLES_PER_FRAME, axis=1)[:, : len(mix)]).astype(np.float32)


def test_a_separator_is_examined_on_the_clip_itself(tmp_path: Path) -> None:
    """Both voices are noise: the estimate is poor, and the limit refuses the clip by name and number."""
    clip, files, _ = segment(tmp_path)
    enrolment = np.zeros((2, 16000), np.float32)
    enrolment[0, :16000], enrolment[1, :8000] = 0.5, 0.25
    clip = with_sounds(clip, files, ENROLMENT=enrolment)
    model = ByPitch()
    stage = Separate(separator="turn_gate")
    object.__setattr__(stage, "_model", model)
    (out,) = stage.process(clip, files)
    assert isinstance(out, Clip)
    assert [len(own) for own in model.enrolled[0]] == [16000, 8000]  # without the padding
    expected = out.measures["p1.si_sdr_est_db"]
    assert isinstance(expected, float) and -20.0 < expected < 5.0
    strict = replace(stage, min_si_sdr_db=5.0)
    object.__setattr__(strict, "_model", model)
    (refused,) = strict.process(clip, files)
    assert isinstance(refused, Drop) and refused.reason is DropReason.SEPARATION_POOR
    assert "expected at least 5 dB of SI-SDR in overlap, estimated" in refused.detail
