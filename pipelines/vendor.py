"""Brings wavesurfer.js from npm into `dyconv/listen/vendor`, where it is kept so that nobody needs npm to build.

`python -m pipelines.vendor` fetches the release that `vendor.json` there names, believes it only if its hash is the one
written down, and writes the few files that the page of `dyconv listen` needs. To take a newer release, write its version and
its `dist.integrity` (`npm view wavesurfer.js@VERSION dist.integrity`) into `vendor.json` first.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from rich.console import Console

from dyconv.errors import DyconvError

FOLDER = Path(__file__).resolve().parent.parent / "dyconv" / "listen" / "vendor"
MEMBERS = {
    "wavesurfer.min.js": "package/dist/wavesurfer.min.js",
    "regions.min.js": "package/dist/plugins/regions.min.js",
    "timeline.min.js": "package/dist/plugins/timeline.min.js",
    "LICENSE.txt": "package/LICENSE",
}
_REGISTRY = "https://registry.npmjs.org"
_TIMEOUT_S = 60.0


def main() -> None:
    """Fetch, check and write; `vendor.json` gets the hash of each file."""
    note = FOLDER / "vendor.json"
    known = json.loads(note.read_text())
    files = unpacked(fetched(known["package"], known["version"]), known["integrity"])
    for name, data in files.items():
        (FOLDER / name).write_bytes(data)
    known["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    note.write_text(json.dumps(known, indent=2) + "\n")
    Console().print(
        f"{known['package']} {known['version']} ({known['licence']}): {len(files)} files in {FOLDER}", highlight=False
    )


def fetched(package: str, version: str) -> bytes:
    """The package's tarball, by npm with whatever registry it is set to, or without npm from the public one.

    Raises:
        DyconvError: if it cannot be had.
    """
    try:
        if shutil.which("npm"):
            with tempfile.TemporaryDirectory() as folder:
                command = ["npm", "pack", f"{package}@{version}", "--ignore-scripts", "--pack-destination", folder]
                subprocess.run(command, check=True, capture_output=True, cwd=folder)
                (tarball,) = Path(folder).glob("*.tgz")
                return tarball.read_bytes()
        registry = os.environ.get("NPM_CONFIG_REGISTRY", _REGISTRY).rstrip("/")
        with urllib.request.urlopen(f"{registry}/{package}/-/{package}-{version}.tgz", timeout=_TIMEOUT_S) as answer:
            return bytes(answer.read())
    except (OSError, subprocess.CalledProcessError) as error:
        raise DyconvError(f"cannot fetch {package} {version} from npm", hint="check the network, or npm's registry") from error


def unpacked(tarball: bytes, integrity: str) -> dict[str, bytes]:
    """The wanted files of a tarball by their name here.

    Raises:
        DyconvError: if the tarball is not the one that `integrity` (npm's `sha512-...`) names, or lacks a file.
    """
    found = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    if found != integrity:
        raise DyconvError(f"the tarball's hash is {found}, expected {integrity}", hint="is the version in vendor.json right?")
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as archive:
        out = {}
        for name, member in MEMBERS.items():
            try:
                file = archive.extractfile(member)
            except KeyError:
                file = None
            if file is None:
                raise DyconvError(f"the tarball has no {member}", hint="look where this release keeps it")
            out[name] = file.read()
        return out


if __name__ == "__main__":
    main()
