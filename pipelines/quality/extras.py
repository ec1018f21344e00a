"""Measures on recordings that were not composed: pyannote's packaged sample, and real conversations with an RTTM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dyconv.errors import DyconvError
from dyconv.media.source import probe
from dyconv.models import registry
from dyconv.models.catalogue import MODELS
from dyconv.score_metrics import Speech, speaker_scores
from dyconv.speech.turns import runs
from dyconv.synth.sound import read_sound
from dyconv.time import FPS, SAMPLES_PER_FRAME
from dyconv.truth import FILE_NAME, Truth, TruthTurn, write_truth
from pipelines.make_demo import packaged, reference_turns

_RTTM = {  # media in conversations/, reference in truth/
    "diarizationvisualization__00115": "diarizationvisualization__00115.rttm",
    "msdwild__00001": "msdwild__00001.rttm",
}


def sample_der() -> dict[str, Any]:
    """DER of the default diarizer on pyannote's packaged sample: no collar, overlap scored, number of voices unknown and known.

    Empty where there is no default diarizer, or its weights are missing; `error` says so.
    """
    specs = [spec for spec in MODELS if spec.slot == "diarizer" and spec.default]
    if not specs:
        return {"error": "no default diarizer"}
    samples = read_sound(packaged("pyannote.audio", "sample/sample.wav"))
    turns = reference_turns(packaged("pyannote.audio", "sample/sample.rttm").read_text())
    reference = [Speech(turn.person or "?", turn.start, turn.end) for turn in turns]
    span = [(0.0, len(samples) / (FPS * SAMPLES_PER_FRAME))]
    try:
        diarizer = registry.load(specs[0].name)
    except DyconvError as error:
        return {"diarizer": specs[0].name, "error": str(error)}
    out: dict[str, Any] = {"diarizer": specs[0].name}
    for name, bounds in (("der", {}), ("der_two_known", {"min_speakers": 2, "max_speakers": 2})):
        found = diarizer.diarize(samples, **bounds)
        spoken = [
            Speech(f"v{voice}", start / FPS, stop / FPS)
            for voice, row in enumerate(found.activity)
            for start, stop in runs(np.asarray(row) >= 0.5)
        ]
        out[name] = round(float(speaker_scores(reference, spoken, span)["der"]), 4)
        out["voices" if name == "der" else "voices_two_known"] = len(found.activity)
    return out


def real_truths(folder: Path, out: Path) -> dict[str, tuple[Path, Path]]:
    """Media and truth by source id, of real conversations whose speakers are known; truths are written into `out`."""
    found: dict[str, tuple[Path, Path]] = {}
    for name, rttm in _RTTM.items():
        media, reference = folder / "conversations" / f"{name}.mp4", folder / "truth" / rttm
        if not (media.is_file() and reference.is_file()):
            continue
        duration = float(probe(media).duration)
        path = out / name / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        write_truth(path, _truth(media.name, duration, reference.read_text()))
        found[name] = media, path
    return found


def _truth(media: str, duration: float, rttm: str) -> Truth:
    """Turns of an RTTM; the two who speak most are the people, all others off screen."""
    rows = [line.split() for line in rttm.splitlines() if line.startswith("SPEAKER")]
    turns = [(row[7], float(row[3]), min(float(row[3]) + float(row[4]), duration)) for row in rows]
    spoken: dict[str, float] = {}
    for person, start, end in turns:
        spoken[person] = spoken.get(person, 0.0) + end - start
    people = sorted(sorted(spoken, key=lambda person: -spoken[person])[:2])
    kept = tuple(TruthTurn(person, start, end) for person, start, end in sorted(turns, key=lambda turn: turn[1]) if end > start)
    return Truth(media=media, duration=duration, layout=None, people=tuple(people), cuts=None, turns=kept)
