"""Who the conversations are made of: people held out of every training, or what packages bring along."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dyconv.media.audio import write_audio
from dyconv.synth.compose import PersonInput
from dyconv.time import SAMPLE_RATE
from dyconv.truth import TruthTurn

# Held-out clips that one clean voice and one face fill. Left out of `training.corpora.HELD_OUT_HEADS`: lia__driving3 (no
# sound), liveportrait__d14 (music only), senselab__sally_vid (a cut).
CLIPS = {
    "arms": "skyreels-a1__2",  # a second face comes later
    "beard": "deep_avsr__00016",
    "desk": "mimictalk__German_20s",
    "glasses": "talk-vid__Asian_1",
    "hill": "sadtalker__WDA_KatieHill_000",
    "podcast": "speakervid-5m__half_body__2",
    "noem": "styletalk__KristiNoem",
    "reagan": "styletalk__reagan_clip1",
    "red": "hyperreenact__target_video_2",
    "robert": "talking-face_pc-avs__00104",
    "stage": "sparsesync__00018",  # here as well
    "sync": "syncnet_fcn__example",
}
# By how many frames the sound of a clip is later than its lips, as it came. Measured once over the whole clip by mouth_sync
# (2026-11); 3 frames are published for SyncNet's example, and where lip opening and level correlate by more than 0.3 (beard,
# glasses, noem, robert, sync), their best lag is within two frames of these numbers.
OWN_OFFSETS = {
    **{"arms": 0.7, "beard": -0.7, "desk": 0.0, "glasses": -0.1, "hill": 1.9, "podcast": -1.8},
    **{"noem": 1.7, "reagan": 0.0, "red": 0.3, "robert": -1.6, "stage": 1.9, "sync": -3.7},
}
_UNTIL_S = {"arms": 14.0, "stage": 7.2}
NARRATORS = "speech/speechocean762"  # off-screen voices: speakers who are held out as well
_PHOTOGRAPHS = (  # package, file, box of one person (x0, y0, x1, y1)
    ("skimage", "data/astronaut.png", None),
    ("insightface", "data/images/t1.jpg", (0, 205, 262, 700)),
)
_PAUSE_S = 0.4
_STEP = SAMPLE_RATE // 100
_SHORTEST = 40  # steps of 10 ms: what one speaker says alone, before or after an overlap


@dataclass(frozen=True)
class Cast:
    """People by name, and voices that are never seen.

    Attributes:
        real: whether these are clips of real people talking; else photographs with packaged telephone speech.
        narrators: sound files.
    """

    people: dict[str, PersonInput]
    narrators: tuple[Path, ...]
    real: bool


def real_data() -> Path | None:
    """The folder of real media (`DYCONV_REAL_DATA`, default ../shared/data), if it is there."""
    folder = Path(os.environ.get("DYCONV_REAL_DATA") or "../shared/data")
    return folder if (folder / "heads").is_dir() else None


def cast(scratch: Path) -> Cast:
    """Who there is on this machine; sounds that have to be put together are written into `scratch`."""
    folder = real_data()
    return packaged_cast(scratch) if folder is None else _held_out(folder, scratch)


def _held_out(folder: Path, scratch: Path) -> Cast:
    os.environ["DYCONV_REAL_DATA"] = str(folder)
    from training.corpora import speakers

    people = {}
    for name, stem in CLIPS.items():
        video, sound = folder / "heads" / f"{stem}.mp4", folder / "heads" / f"{stem}.wav"
        people[name] = PersonInput(video, sound if sound.is_file() else None, _UNTIL_S.get(name))
    narrators = []
    for speaker, files in sorted(speakers(held_out=True).items())[:4]:
        narrators.append(_joined(scratch / f"narrator-{speaker}.wav", files[:6]))
    return Cast(people, tuple(narrators), real=True)


def _joined(path: Path, files: list[Path]) -> Path:
    from dyconv.synth.sound import read_sound

    if not path.is_file():
        pause = np.zeros(int(_PAUSE_S * SAMPLE_RATE), np.float32)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, np.concatenate([part for file in files for part in (read_sound(file), pause)]))
    return path


def packaged_cast(scratch: Path) -> Cast:
    """Two photographs, and what each speaker of the packaged telephone sample says alone."""
    from PIL import Image

    from dyconv.speech.turns import runs
    from dyconv.synth.sound import faded, read_sound
    from pipelines.make_demo import PEOPLE, packaged, reference_turns

    mix = read_sound(packaged("pyannote.audio", "sample/sample.wav"))
    turns = reference_turns(packaged("pyannote.audio", "sample/sample.rttm").read_text())
    people = {}
    scratch.mkdir(parents=True, exist_ok=True)
    pause = np.zeros(int(_PAUSE_S * SAMPLE_RATE), np.float32)
    for person, (package, file, box) in zip(sorted(PEOPLE.values()), _PHOTOGRAPHS, strict=True):
        voice, picture = scratch / f"{person}.wav", scratch / f"{person}.png"
        own, others = (_heard(turns, len(mix), person, own=own) for own in (True, False))
        spans = [(start * _STEP, stop * _STEP) for start, stop in runs(own & ~others) if stop - start >= _SHORTEST]
        parts = [part for start, stop in spans for part in (faded(mix[start:stop], 0.02), pause)]
        write_audio(voice, np.concatenate(parts))
        with Image.open(packaged(package, file)) as image:
            image.convert("RGB").crop(box).save(picture)
        people[person] = PersonInput(picture, voice)
    return Cast(people, (), real=False)


def _heard(turns: tuple[TruthTurn, ...], samples: int, person: str, *, own: bool) -> np.ndarray:
    """Bool per 10 ms: where a person (or, not `own`, anybody else) speaks."""
    out = np.zeros(-(-samples // _STEP), bool)
    for turn in turns:
        if (turn.person == person) == own:
            out[round(turn.start * 100) : round(turn.end * 100)] = True
    return out
