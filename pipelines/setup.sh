#!/usr/bin/env bash
# Makes .venv from requirements.lock and brings the default models. Called by make; safe to call again.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || python=python3
command -v "$python" >/dev/null || fail "no Python found. Debian/Ubuntu: sudo apt-get install -y python3.11 python3.11-venv (or: make PYTHON=/path/to/python3.11)"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$version" = 3.11 ] || fail "Python 3.11 is needed, $python is $version. Say which one: make PYTHON=/path/to/python3.11"
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "Python has no venv module. Debian/Ubuntu: sudo apt-get install -y python3.11-venv"
[ "$(uname -sm)" = "Linux x86_64" ] || fail "requirements.lock is for Linux x86_64, this is $(uname -sm). Install pyproject.toml's dependencies by hand: pip install -e '.[dev]'"
free_gb=$(( $(df -Pk . | awk 'NR==2 {print $4}') / 1048576 ))
if [ ! -d .venv ] && [ "$free_gb" -lt 9 ]; then fail "about 9 GB of disk are needed here, $free_gb GB are free"; fi

if [ ! -x .venv/bin/python ]; then
  say "making .venv"
  "$python" -m venv .venv
fi
say "installing locked packages (about 7 GB unpacked, minutes on a first run)"
.venv/bin/pip install --disable-pip-version-check --no-deps --require-hashes -r requirements.lock ||
  fail "pip could not install requirements.lock; its message is above. Behind a proxy or mirror, configure pip first (pip config)"
.venv/bin/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --no-index -e .
say "bringing the default models"
.venv/bin/dyconv models pull --all-default
.venv/bin/dyconv doctor || fail "something is missing: see above for what to install, then run make again"
