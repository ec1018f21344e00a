"""What lies under speech: `python -m training.cleanup.sounds --corpora FOLDER --out FOLDER` decodes it once.

Music and noise of Debian packages (see `training.corpora`), mono int16 at 16 kHz. Sung or spoken files are left out by
their names and folders; a sound of more than twenty seconds is music, of which at most half a minute is kept.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import soundfile

from dyconv.arrays import load_arrays, save_arrays
from dyconv.time import SAMPLE_RATE
from training.corpora import MUSIC, NOISE, sounds

_LOG = logging.getLogger(__name__)
_MUSIC_S = 20.0
_LONGEST_S = 30.0
_SHORTEST_S = 0.3
_SPOKEN = ("voice", "speech", "human", "male", "grunt", "talk", "laugh", "scream", "vox", "choir", "asterisk", "names")


def read_sounds(folder: Path, *, held_out: bool) -> dict[str, list[np.ndarray]]:
    """`music` and `noise`: lists of int16 [N], from loudness-independent decoding (levels are set when mixing)."""
    found: dict[str, list[np.ndarray]] = {"music": [], "noise": []}
    for path in dict.fromkeys([*sounds(folder, MUSIC, held_out=held_out), *sounds(folder, NOISE, held_out=held_out)]):
        if any(word in str(path.relative_to(folder)).lower() for word in _SPOKEN):
            continue
        try:
            samples, seconds = _decoded(path)
        except soundfile.LibsndfileError as error:
            _LOG.warning("%s is left out: %s", path, error)
            continue
        if seconds >= _SHORTEST_S and np.abs(samples).max() > 300:
            found["music" if seconds >= _MUSIC_S else "noise"].append(samples)
    return found


def _decoded(path: Path) -> tuple[np.ndarray, float]:
    """At most half a minute from a third of the way in, int16 [N] at 16 kHz, and the file's length in seconds."""
    from scipy.signal import resample_poly

    with soundfile.SoundFile(path) as file:
        seconds = file.frames / file.samplerate
        file.seek(int(max(0.0, min(seconds / 3, seconds - _LONGEST_S)) * file.samplerate))
        samples = file.read(int(_LONGEST_S * file.samplerate), dtype="float32", always_2d=True).mean(axis=1)
        if file.samplerate != SAMPLE_RATE:
            samples = resample_poly(samples, SAMPLE_RATE, file.samplerate)
    return np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16), seconds


def load_sounds(path: Path) -> dict[str, list[np.ndarray]]:
    """What `main` wrote: `music` and `noise`, lists of int16 [N]."""
    arrays = load_arrays(path)
    return {kind: [arrays[name] for name in sorted(arrays) if name.startswith(kind)] for kind in ("music", "noise")}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, required=True, help="folder of unpacked packages")
    parser.add_argument("--out", type=Path, required=True, help="folder for train.npz and held_out.npz")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, held_out in (("train", False), ("held_out", True)):
        found = read_sounds(given.corpora, held_out=held_out)
        save_arrays(
            given.out / f"{name}.npz",
            {f"{kind}{index:04d}": sound for kind, each in found.items() for index, sound in enumerate(each)},
        )
        _LOG.info("%s: %d pieces of music, %d noises", name, len(found["music"]), len(found["noise"]))


if __name__ == "__main__":
    main()
