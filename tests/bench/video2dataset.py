"""video2dataset 1.3.0 in a virtual environment of its own: making it, running it, reading what it wrote.

It wants `ffmpeg` and `ffprobe` on the path. The first is the binary of `imageio-ffmpeg`, given the encoder's preset where it
encodes (it has no setting for it); the second, where the machine has none, a script that says the same by PyAV.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "1.3.0"
# Its plain install ends in an ImportError: these are versions it runs with.
PACKAGES = (
    f"video2dataset=={VERSION}",
    *("pyarrow==15.0.2", "pandas==2.2.3", "webdataset==0.2.86", "scipy==1.13.1", "wandb==0.16.6", "protobuf<5", "Pillow<11"),
)
MODES = {"exact": "exact", "keyframe": "keyframe_adjusted"}
_LIMIT_S = 1800
_FFMPEG = """#!/bin/sh
preset="{preset}"
case " $* " in *" copy "*) preset="" ;; *" -i "*) ;; *) preset="" ;; esac
if [ -n "$preset" ]; then
  left=$#
  for word in "$@"; do
    [ $left -eq 1 ] && set -- "$@" $preset
    set -- "$@" "$word"
    left=$((left - 1))
    shift
  done
fi
exec "{real}" "$@"
"""
_FFPROBE = """#!{python}
import json, sys
import av
path = sys.argv[-1] if not sys.argv[-1].startswith("packet=") else next(a for a in sys.argv[1:] if a.endswith(".mp4"))
with av.open(path) as container:
    streams = [{{"index": s.index, "codec_type": s.type, "codec_name": s.codec_context.name}} for s in container.streams]
    found = {{"streams": streams, "format": {{"duration": str((container.duration or 0) / 1e6)}}}}
    if "-show_entries" in sys.argv:
        stream = container.streams.video[0]
        found["packets"] = [
            {{"pts_time": str(float(p.pts * p.time_base)), "flags": "K__" if p.is_keyframe else "___"}}
            for p in container.demux(stream) if p.size and p.pts is not None
        ]
print(json.dumps(found))
"""
_CONFIG = """subsampling:
  CutDetectionSubsampler:
    cuts_are_clips: True
    args: {{cut_detection_mode: "all", framerates: null, threshold: 27, min_scene_len: 15}}
  ClippingSubsampler:
    args: {{min_length: {shortest}, max_length: {longest}, max_length_strategy: "all", precision: "{precision}"}}
reading:
  yt_args: {{download_size: 360, download_audio_rate: 44100, yt_metadata_args: null}}
  timeout: 60
  sampler: null
storage: {{number_sample_per_shard: 4, oom_shard_count: 5, captions_are_subtitles: False}}
distribution: {{processes_count: 2, thread_count: 2, subjob_size: 1000, distributor: "multiprocessing"}}
"""
_SCRIPT = """import sys
from video2dataset import video2dataset
if __name__ == "__main__":
    video2dataset(url_list=sys.argv[1], output_folder=sys.argv[2], output_format="webdataset", input_format="csv",
                  encode_formats={"video": "mp4"}, url_col="url", config=sys.argv[3], tmp_dir=sys.argv[4])
"""


class PeerMissing(Exception):
    """The peer cannot be had here; says why."""


@dataclass(frozen=True)
class Written:
    """One sample it wrote: what its JSON says, and the bytes of its video, if any."""

    url: str
    status: str
    error: str
    span: tuple[float, float] | None
    video: bytes


def environment() -> Path:
    """The Python of its virtual environment, made at the first call, kept below DYCONV_CACHE.

    Raises:
        PeerMissing: where it cannot be installed.
    """
    home = Path(os.environ.get("DYCONV_CACHE") or Path.home() / ".cache" / "dyconv") / "bench" / f"video2dataset-{VERSION}"
    python, done = home / "bin" / "python", home / "installed.json"
    if done.is_file() and json.loads(done.read_text()) == list(PACKAGES):
        return python
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    for command in ([sys.executable, "-m", "venv", str(home)], [str(python), "-m", "pip", "install", "-q", *PACKAGES]):
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerMissing(f"video2dataset {VERSION} could not be installed: {error}") from error
        if answer.returncode:
            last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
            raise PeerMissing(f"video2dataset {VERSION} could not be installed: {last[:200]}")
    done.write_text(json.dumps(list(PACKAGES)))
    return python


def run(python: Path, folder: Path, urls: Sequence[str], mode: str, *, preset: str, shortest: float, longest: float) -> Path:
    """Cut the files at their cuts; returns the folder with its tars.

    Args:
        mode: one of MODES.
        preset: FFmpeg options of the encoder, such as `-preset veryfast -crf 20`; nothing for its own.
        shortest, longest: of a clip, seconds.

    Raises:
        PeerMissing: if it does not run at all.
    """
    shutil.rmtree(folder, ignore_errors=True)
    tools, temporary = folder / "bin", folder / "tmp"
    tools.mkdir(parents=True)
    temporary.mkdir()
    _tools(tools, preset)
    (folder / "urls.csv").write_text("\n".join(["url", *urls]) + "\n")
    (folder / "config.yaml").write_text(_CONFIG.format(precision=MODES[mode], shortest=shortest, longest=longest))
    (folder / "run.py").write_text(_SCRIPT)
    words = [folder / "run.py", folder / "urls.csv", folder / "out", folder / "config.yaml", temporary]
    quiet = {"WANDB_MODE": "disabled", "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": "", "TMPDIR": str(temporary)}
    with (folder / "log.txt").open("w") as log:
        answer = subprocess.run(
            [str(python), *map(str, words)],
            env={**os.environ, **quiet},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=_LIMIT_S,
        )
    if answer.returncode:
        last = ((folder / "log.txt").read_text().strip().splitlines() or ["no message"])[-1]
        raise PeerMissing(f"video2dataset {VERSION} ended with exit status {answer.returncode}: {last[:200]}")
    return folder / "out"


def _tools(folder: Path, preset: str) -> None:
    import imageio_ffmpeg

    scripts = {"ffmpeg": _FFMPEG.format(real=imageio_ffmpeg.get_ffmpeg_exe(), preset=preset)}
    if shutil.which("ffprobe") is None:
        scripts["ffprobe"] = _FFPROBE.format(python=sys.executable)
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def samples(folder: Path) -> list[Written]:
    """What lies in its tars, in their order. A tar that is broken off ends the list of its samples."""
    found: list[Written] = []
    for path in sorted(folder.glob("*.tar")):
        members: dict[str, dict[str, bytes]] = {}
        try:
            with tarfile.open(path) as tar:
                for item in tar:
                    stem, _, suffix = item.name.partition(".")
                    body = tar.extractfile(item)
                    members.setdefault(stem, {})[suffix] = body.read() if body else b""
        except tarfile.TarError:
            pass
        for parts in members.values():
            said: dict[str, Any] = json.loads(parts.get("json", b"{}"))
            clips = said.get("clips") or [None]
            span = (float(clips[0][0]), float(clips[0][1])) if clips[0] else None
            error = str(said.get("error_message") or "")
            found.append(Written(str(said.get("url", "")), str(said.get("status")), error, span, parts.get("mp4", b"")))
    return found
