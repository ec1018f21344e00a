"""`dyconv doctor`: every missing thing is named with the command that brings it, and the exit code says so."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from dyconv import doctor
from dyconv.cli.doctor import doctor as command
from dyconv.models.registry import ModelSpec, Weight

STATES = {"ok", "warn", "missing"}
FETCHED = Weight("test/fetched.bin", None, "a wheel", fetch="some.module:fetch")
BY_HAND = Weight("test/by_hand.bin", None, "https://example.invalid/weights")


def run_command(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> tuple[int, str]:
    with pytest.raises(typer.Exit) as stop:
        command(out=None, as_json=as_json, quiet=False)
    return stop.value.exit_code, capsys.readouterr().out


def test_json_has_every_section_and_the_exit_code_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run_command(capsys, as_json=True)
    answer = json.loads(text)
    assert answer["schema"] == doctor.SCHEMA
    sections = {name: value for name, value in answer.items() if isinstance(value, list)}
    assert set(sections) == {"packages", "libraries", "models", "tools", "machine", "ray", "recipes"}
    findings = [finding for section in sections.values() for finding in section]
    assert all(set(finding) == {"name", "state", "found", "wanted", "hint"} for finding in findings)
    assert {finding["state"] for finding in findings} <= STATES
    missing = [finding for finding in findings if finding["state"] == "missing"]
    assert (code == 0) is (not missing) is answer["ok"]
    assert all(finding["hint"] for finding in missing)
    assert {finding["name"] for finding in answer["machine"]} == {"cpu", "memory", "disk", "gpu"}


def test_text_names_what_is_missing_and_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("dyconv.models.catalogue.MODELS", (ModelSpec("m", "vad", "x:y", "MIT", "", (FETCHED,), default=True),))
    code, text = run_command(capsys, as_json=False)
    assert code == 1
    assert "MISS  m " in text
    assert "run: dyconv models pull m" in text
    assert "cannot run here: no model called" in text, "recipes whose models are not there are named"


def test_only_a_missing_default_model_is_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYCONV_CACHE", str(tmp_path))
    present = tmp_path / "models" / "test" / "there.bin"
    present.parent.mkdir(parents=True)
    present.write_bytes(b"weights")
    specs = [
        ModelSpec("usual", "vad", "x:y", "MIT", "", (FETCHED,), default=True),
        ModelSpec("gated", "vad", "x:y", "MIT", "", (BY_HAND,)),
        ModelSpec("here", "vad", "x:y", "MIT", "", (Weight("test/there.bin", None, "here"),), default=True),
    ]
    usual, gated, here = doctor.check_models(specs)
    assert (usual.state, gated.state, here.state) == ("missing", "warn", "ok")
    assert usual.hint == "run: dyconv models pull usual"
    assert "https://example.invalid/weights" in gated.hint
    assert str(tmp_path / "models" / "test" / "by_hand.bin") in gated.hint
    assert not doctor.Examination({"models": [usual]}).ok
    assert doctor.Examination({"models": [gated, here]}).ok


def test_a_library_that_does_not_load_names_its_package() -> None:
    found = doctor.check_libraries({"libc.so.6": ("libc6", "-"), "libnot-there.so.9": ("libnot-there9", "nothing works")})
    states = {finding.name: finding for finding in found}
    assert states["libc.so.6"].state == "ok"
    assert states["libnot-there.so.9"].state == "warn"
    assert "nothing works" in states["libnot-there.so.9"].found
    assert states["libnot-there.so.9"].hint == "Debian/Ubuntu: sudo apt-get install -y libnot-there9"


def test_the_library_table_covers_what_the_packages_link_to() -> None:
    """Everything that mediapipe's and OpenCV's binaries take from outside the wheel and outside libc is in the table."""
    packages = Path(pytest.importorskip("cv2").__file__).parent.parent
    basic = re.compile(
        r"lib(c|m|dl|rt|pthread|z|gcc_s|stdc\+\+)\.so|ld-linux|linux-vdso|lib(GLdispatch|GLX|Xau|Xdmcp|bsd|md|pcre2-8|X11)\.so"
    )
    outside = set()
    for binary in (*packages.glob("mediapipe/tasks/c/*.so"), *packages.glob("cv2/cv2*.so")):
        listing = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=True).stdout
        for line in listing.splitlines():
            name, _, where = line.strip().partition(" => ")
            if "site-packages" not in where and not basic.match(name.split()[0].rsplit("/", 1)[-1]):
                outside.add(name)
    assert outside <= set(doctor.LIBRARIES)


def test_lock_pins_are_read_and_compared(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("# a comment\nAv==0.0.1 \\\n    --hash=sha256:00\nray[data,default]==2.60.0 ; python_version > '3'\n")
    assert doctor.locked_versions(lock) == {"av": "0.0.1", "ray": "2.60.0"}
    findings = {finding.name: finding for finding in doctor.check_packages(lock)}
    assert findings["av"].state == "warn"
    assert findings["av"].wanted == "0.0.1"
    assert findings["numpy" if "numpy" in findings else "scipy"].state == "ok"


def test_a_cluster_that_does_not_answer_is_said() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert doctor.check_ray(f"127.0.0.1:{port}").state == "warn"
        server.listen()
        assert doctor.check_ray(f"127.0.0.1:{port}").state == "ok"
        assert doctor.check_ray(f"ray://127.0.0.1:{port}").state == "ok"
    assert doctor.check_ray("no address at all").state == "warn"


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from dyconv.doctor import examine; examine();"
        "print([m for m in ('torch', 'ray', 'mediapipe', 'cv2', 'scenedetect', 'matplotlib') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
