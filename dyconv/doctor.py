"""What this machine has and what it can run: packages, libraries, models, hardware, recipes.

Nothing heavy is imported: versions come from the packages' metadata, libraries are tried one by one with the dynamic
loader. Each finding has a state: `ok`, `warn` (something works less well or not at all, but not the default chain) or
`missing` (the default chain cannot run), and for the last two what to do about it.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dyconv.errors import UsageError
from dyconv.models import registry
from dyconv.models.registry import ModelSpec

SCHEMA = 1
ROOT = Path(__file__).resolve().parent.parent

# soname -> (Debian package, what fails without it). Found with `ldd`, and tried with each library hidden.
LIBRARIES: dict[str, tuple[str, str]] = {
    "libEGL.so.1": ("libegl1", "MediaPipe's library does not load, so no model mediapipe_task"),
    "libGLESv2.so.2": ("libgles2", "MediaPipe's library does not load, so no model mediapipe_task"),
}
LOW_MEMORY_GB = 4.0
LOW_DISK_GB = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    name: str
    state: str  # ok | warn | missing
    found: str
    wanted: str = ""
    hint: str = ""  # what to do, for a person; empty where nothing is to be done


@dataclass(frozen=True)
class Examination:
    """Everything `dyconv doctor` says, by section."""

    sections: dict[str, list[Finding]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True where nothing is missing that the default chain needs."""
        return all(finding.state != "missing" for findings in self.sections.values() for finding in findings)

    def hints(self) -> list[str]:
        """What to do, each thing once, the missing first."""
        found = [finding for findings in self.sections.values() for finding in findings if finding.hint]
        found.sort(key=lambda finding: finding.state != "missing")
        return list(dict.fromkeys(finding.hint for finding in found))

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "ok": self.ok,
            **{name: [asdict(finding) for finding in findings] for name, findings in self.sections.items()},
        }


def examine(folder: Path | None = None) -> Examination:
    """Look at this machine. `folder` is where builds would be written (default: the current one)."""
    models = check_models()
    libraries = check_libraries()
    return Examination(
        {
            "packages": check_packages(),
            "libraries": libraries,
            "models": models,
            "tools": [check_ffmpeg()],
            "machine": check_machine(folder or Path.cwd()),
            "ray": [check_ray()],
            "recipes": check_recipes({finding.name for finding in libraries if finding.state == "missing"}),
        }
    )


def locked_versions(lock: Path) -> dict[str, str]:
    """Package name (normalised) -> version, from a pip requirements file with `==` pins; empty where there is none."""
    if not lock.is_file():
        return {}
    pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", lock.read_text(), flags=re.MULTILINE)
    return {_normal(name): version for name, version in pins}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _required() -> list[str]:
    """Names of the packages that dyconv itself asks for, extras left out."""
    try:
        lines = importlib.metadata.requires("dyconv") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = [re.match(r"[A-Za-z0-9._-]+", line) for line in lines if "extra ==" not in line]
    return sorted({_normal(match.group()) for match in names if match})


def check_packages(lock: Path = ROOT / "requirements.lock") -> list[Finding]:
    pins = locked_versions(lock)
    python = ".".join(str(part) for part in sys.version_info[:3])
    findings = [
        Finding("python", "ok", python, "3.11")
        if sys.version_info[:2] == (3, 11)
        else Finding("python", "missing", python, "3.11", "make the environment with Python 3.11")
    ]
    required = _required()
    if not required:
        findings.append(Finding("dyconv", "missing", "not installed", hint="run: make setup (or: pip install -e .)"))
    for name in required:
        wanted = pins.get(name, "")
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, "missing", "not installed", wanted, "run: make setup"))
            continue
        same = not wanted or version.split("+")[0] == wanted.split("+")[0]
        hint = "" if same else "versions differ from requirements.lock; run: make setup"
        findings.append(Finding(name, "ok" if same else "warn", version, wanted, hint))
    return findings


def check_libraries(libraries: dict[str, tuple[str, str]] = LIBRARIES) -> list[Finding]:
    """Try the shared libraries that optional models expect the system to have; the default chain needs none."""
    if platform.system() != "Linux":
        return []
    findings = []
    absent: list[tuple[str, str, str]] = []
    for name, (package, consequence) in libraries.items():
        try:
            ctypes.CDLL(name)
            findings.append(Finding(name, "ok", "loads"))
        except OSError:
            absent.append((name, package, consequence))
    packages = " ".join(dict.fromkeys(package for _, package, _ in absent))
    hint = f"Debian/Ubuntu: sudo apt-get install -y {packages}"
    findings += [Finding(name, "warn", f"does not load: {consequence}", package, hint) for name, package, consequence in absent]
    return findings


def check_models(models: Iterable[ModelSpec] | None = None) -> list[Finding]:
    """Is each model's weights on this machine? Presence only: loading checks the bytes."""
    if models is None:
        from dyconv.models.catalogue import MODELS

        models = MODELS
    findings = []
    for spec in models:
        absent = registry.missing(spec)
        what = f"{spec.slot}{' (default)' if spec.default else ''}"
        if not absent:
            where = "weights present" if spec.weights else "needs no weights"
            findings.append(Finding(spec.name, "ok", where, what))
            continue
        if all(weight.fetch for weight in absent):
            hint = f"run: dyconv models pull {spec.name}"
        else:
            by_hand = "; ".join(f"{weight.origin} -> {registry.weight_path(weight)}" for weight in absent)
            hint = f"{spec.name}, by hand: {by_hand}"
        found = f"missing {', '.join(weight.path for weight in absent)}"
        findings.append(Finding(spec.name, "missing" if spec.default else "warn", found, what, hint))
    return findings


def check_ffmpeg() -> Finding:
    """The ffmpeg binary that comes with imageio-ffmpeg; yt-dlp merges with it."""
    try:
        import imageio_ffmpeg

        binary = imageio_ffmpeg.get_ffmpeg_exe()
        answer = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=20, check=True)
    except (ImportError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        return Finding("ffmpeg", "missing", f"imageio-ffmpeg's binary does not run: {error}", hint="run: make setup")
    words = answer.stdout.split()
    return Finding("ffmpeg", "ok", f"{words[2] if len(words) > 2 else '?'} ({binary})")


def check_machine(folder: Path) -> list[Finding]:
    """Cores, memory, disk and GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = _memory_gb()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = shutil.disk_usage(folder).free / 1e9
    return [
        Finding("cpu", "ok", f"{cores} cores, {platform.machine()}, {platform.system()}"),
        Finding(
            "memory",
            "ok" if memory >= LOW_MEMORY_GB else "warn",
            f"{memory:.1f} GB available",
            f"{LOW_MEMORY_GB:.0f} GB",
            "" if memory >= LOW_MEMORY_GB else "close other programs: with little memory the run gets slow or is ended",
        ),
        Finding(
            "disk",
            "ok" if disk >= LOW_DISK_GB else "warn",
            f"{disk:.1f} GB free at {folder}",
            f"{LOW_DISK_GB:.0f} GB",
            "" if disk >= LOW_DISK_GB else "make room, or give --out on a larger disk (about 0.5 GB per hour of kept video)",
        ),
        _check_gpu(),
    ]


def _memory_gb() -> float:
    """Memory that a new program could get, GB; a container's limit counts."""
    available = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file() and (match := re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())):
        available = float(match.group(1)) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdigit():
        available = min(available, float(text) - float(used.read_text()))
    return available / 1e9


def _check_gpu() -> Finding:
    binary = shutil.which("nvidia-smi")
    if binary is None:
        return Finding("gpu", "ok", "none (the default models do not need one)")
    try:
        query = [binary, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("gpu", "warn", f"nvidia-smi does not answer: {error}", hint="check the NVIDIA driver: nvidia-smi")
    return Finding("gpu", "ok", "; ".join(answer.stdout.strip().splitlines()) or "none")


def check_ray(address: str | None = None) -> Finding:
    """Is the cluster that `RAY_ADDRESS` (or `address`) names reachable? Looked at by its port, without joining it."""
    address = address or os.environ.get("RAY_ADDRESS", "")
    if not address or address in ("local", "auto"):
        return Finding("cluster", "ok", "RAY_ADDRESS is not set: runs start a local Ray or use local processes")
    match = re.fullmatch(r"(?:\w+://)?(\[[^\]]+\]|[^:/]+)(?::(\d+))?/?", address)
    if match is None:
        return Finding(
            "cluster", "warn", f"RAY_ADDRESS={address} is no address", hint="use host:port, as `ray start --head` printed"
        )
    host, port = match.group(1).strip("[]"), int(match.group(2) or 6379)
    try:
        with socket.create_connection((host, port), timeout=3):
            return Finding("cluster", "ok", f"{host}:{port} answers")
    except OSError as error:
        hint = "start it (ray start --head), or unset RAY_ADDRESS to run locally"
        return Finding("cluster", "warn", f"{host}:{port} does not answer: {error}", hint=hint)


def check_recipes(missing_libraries: set[str]) -> list[Finding]:
    """Which recipes this machine can run, and why not."""
    from dyconv import recipes

    try:
        known = {name: recipes.load(name) for name in recipes.names()}
    except ImportError as error:
        return [Finding("recipes", "warn", f"not found: {error}", hint="run from the project's folder, or: pip install -e .")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    findings = []
    for name, recipe in known.items():
        models = sorted({model for stage in recipe.stages for model in stage.models()})
        reasons = [reason for model in models if (reason := _lacking(model))]
        reasons += [f"{library} is missing" for library in sorted(missing_libraries)]
        widest = max((recipe.asks(stage).cpus for stage in recipe.stages), default=0)
        if widest > cores:
            reasons.append(f"a stage asks for {widest:g} CPUs, this machine has {cores}")
        gpus = max((recipe.asks(stage).gpus for stage in recipe.stages), default=0)
        if gpus and shutil.which("nvidia-smi") is None:
            reasons.append(f"a stage asks for {gpus:g} GPU, this machine has none (a Ray cluster may)")
        found = "can run here" if not reasons else f"cannot run here: {'; '.join(reasons)}"
        findings.append(Finding(name, "warn" if reasons else "ok", found, f"models {', '.join(models) or 'none'}"))
    return findings


def _lacking(model: str) -> str | None:
    try:
        return f"model {model} is missing" if registry.missing(registry.get(model)) else None
    except UsageError as error:
        return error.message
