"""What the small reference models are trained on, and what is held out of all of them.

Nothing here is part of the project: the media lie in the folder `DYCONV_REAL_DATA` names (`heads/`, `conversations/`,
`speech/speechocean762/`; research use), the music, noises and prompts in Debian packages that `fetch_packages` brings. One
split serves every model: whoever is held out is seen and heard by none of them, so that `make quality` measures
strangers. Weights made from `heads/` are for non-commercial research.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dyconv.errors import UsageError

# One clip a person, none of whom appears in any other file of heads/. A silent mp4 goes with the wav of its name.
HELD_OUT_HEADS = (
    "styletalk__KristiNoem",
    "styletalk__reagan_clip1",
    "talk-vid__Asian_1",
    "talking-face_pc-avs__741400163",
    "talking-face_pc-avs__00104",
    "liveportrait__d14",
    "sadtalker__WDA_KatieHill_000",
    "lia__driving3",
    "mimictalk__German_20s",
    "deep_avsr__00016",
    "skyreels-a1__2",
    "sparsesync__00018",
    "senselab__sally_vid",
    "hyperreenact__target_video_2",
    "speakervid-5m__half_body__2",
)
# Held out as well: the file whose copies carry a known shift, and the same person and recording under other names.
HELD_OUT_OFFSETS = (
    "syncnet_fcn__example",
    "syncnet_fcn__test_offset_0",
    "syncnet_fcn__test_offset_5",
    "syncnet_fcn__test_offset_12",
)
# Neither trained on nor measured: listeners beside held-out speakers, and somebody who is in msdwild__2 as well, which the leak
# test of `dyconv release` found.
_ALSO_OUT = ("msdwild__11", "msdwild__3", "msdwild__9", "msdwild__speaking_mp4s__3")
_EVERY = 5  # each fifth speaker of speechocean762 is held out
_SOUND_EVERY = 10  # so is each tenth sound of every package

# Debian packages (main): music and noises under free licences, and spoken prompts in five languages.
MUSIC = ("wesnoth-1.16-music", "hyperrogue-music", "supertuxkart-data", "colobot-common-sounds")
NOISE = ("wesnoth-1.16-data", "sonic-pi-samples", "supertuxkart-data", "colobot-common-sounds")
PROMPTS = (
    *("asterisk-core-sounds-en-wav", "asterisk-core-sounds-es-wav", "asterisk-core-sounds-fr-wav"),
    *("asterisk-core-sounds-it-wav", "asterisk-core-sounds-ru-wav"),
)
_SOUNDS = (".ogg", ".wav", ".flac")
_MUSIC_S = 20.0  # a sound that lasts longer counts as music, a shorter one as noise


@dataclass(frozen=True)
class Head:
    """One person talking: picture and sound may be two files of one length."""

    name: str
    video: Path
    sound: Path


def data_dir() -> Path:
    """The folder of real media.

    Raises:
        UsageError: if it is not there.
    """
    folder = Path(os.environ.get("DYCONV_REAL_DATA", "../shared/data"))
    if not (folder / "heads").is_dir():
        raise UsageError(f"no training media in {folder}", hint="set DYCONV_REAL_DATA to a folder with heads/ and speech/")
    return folder


def heads(*, held_out: bool) -> list[Head]:
    """Clips of one person with their sound, in order of name, either those held out or those to train on."""
    folder = data_dir() / "heads"
    out = []
    for video in sorted(path for path in folder.iterdir() if path.suffix in (".mp4", ".mov")):
        outside = video.stem in (*HELD_OUT_HEADS, *HELD_OUT_OFFSETS, *_ALSO_OUT)
        beside = video.with_suffix(".wav")
        sound = beside if beside.is_file() else video
        if outside == held_out and (not held_out or video.stem in HELD_OUT_HEADS):
            out.append(Head(video.stem, video, sound))
    return out


def speakers(*, held_out: bool) -> dict[str, list[Path]]:
    """Utterances by speaker of speechocean762, either those held out or those to train on."""
    folder = data_dir() / "speech" / "speechocean762"
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.opus")):
        found.setdefault(path.parent.name, []).append(path)
    return {name: found[name] for index, name in enumerate(sorted(found)) if (index % _EVERY == 0) == held_out}


def fetch_packages(folder: Path) -> None:
    """Download and unpack the Debian packages into `folder`, one folder each; nothing is installed or run."""
    for name in sorted({*MUSIC, *NOISE, *PROMPTS}):
        if (folder / name).is_dir():
            continue
        download = folder / ".deb"
        download.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", name], cwd=download, check=True)
        (package,) = download.glob(f"{name}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / name)], check=True)
        package.unlink()


def sounds(folder: Path, packages: tuple[str, ...], *, held_out: bool = False) -> Iterator[Path]:
    """Sound files of unpacked packages, in order, either those held out or those to train on."""
    for name in packages:
        found = sorted(path for path in (folder / name).rglob("*") if path.suffix in _SOUNDS)
        yield from (path for index, path in enumerate(found) if (index % _SOUND_EVERY == 0) == held_out)
