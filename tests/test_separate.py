"""The separate stage: voices as long as the mix, nothing changed where one speaks alone, bleed and overlap measured."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dyconv.arrays import save_arrays
from dyconv.media.audio import read_audio, write_audio
from dyconv.records import Clip, Drop, DropReason, Key, Source, Turn
from dyconv.stages.base import Files, check_contract
from dyconv.stages.separate import Separate
from dyconv.store import Store
from dyconv.time import SAMPLES_PER_FRAME, Span, frame_samples

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
    out = run(Separate(), clip, files)
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
    out = run(Separate(), clip, files)
    assert isinstance(out, Clip)
    assert out.measures["p0.overlap_share"] == out.measures["p1.overlap_share"] == 0.25
    # Equal turns and levels: 1 % of 30 frames of p0 alone against 99 % of 30 frames of p1 alone.
    assert out.measures["p0.bleed_db"] == pytest.approx(10 * np.log10(0.01 / 0.99), abs=0.5)
    assert str(out.measures["p0.voice_method"]).startswith("turn_gate")


def test_same_input_same_bytes(tmp_path: Path) -> None:
    assets = []
    for attempt in ("a", "b"):
        clip, files, _ = segment(tmp_path / attempt)
        out = run(Separate(), clip, files)
        assert isinstance(out, Clip)
        assets.append(dict(out.assets))
    assert assets[0] == assets[1]


def test_nobody_speaks_in_the_clip(tmp_path: Path) -> None:
    clip, files, mix = segment(tmp_path, ())
    out = run(Separate(max_bleed_db=-20.0, max_overlap_share=0.1), clip, files)
    assert isinstance(out, Clip)
    assert out.measures["p0.bleed_db"] is None and out.measures["p0.overlap_share"] == 0.0
    voice = read_audio(files.path(out, Key.P0_VOICE))
    assert len(voice) == len(mix) and not voice.any()


@pytest.mark.parametrize("limits", [{"max_bleed_db": -30.0}, {"max_overlap_share": 0.2}])
def test_limits_refuse(tmp_path: Path, limits: dict[str, float]) -> None:
    clip, files, _ = segment(tmp_path, doubt=0.01)
    out = run(Separate(**limits), clip, files)
    assert isinstance(out, Drop) and out.reason is DropReason.SEPARATION_POOR
    assert "expected at most" in out.detail and "p0" in out.detail


def test_a_mix_shorter_than_its_frames_is_still_gated(tmp_path: Path) -> None:
    clip, files, mix = segment(tmp_path)
    short = files.new(replace(clip, id="short"), Key.MIX)
    write_audio(short, mix[: -SAMPLES_PER_FRAME // 2])
    clip = files.add(clip, (Key.MIX, short))
    out = run(Separate(), clip, files)
    assert isinstance(out, Clip)
    assert len(read_audio(files.path(out, Key.P0_VOICE))) == len(mix) - SAMPLES_PER_FRAME // 2
