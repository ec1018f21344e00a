#!/usr/bin/env bash
# Resolves pyproject.toml into requirements.lock: exact versions and sha256 of the Linux x86_64, Python 3.11 files.
set -euo pipefail
cd "$(dirname "$0")/.."
report=$(mktemp)
trap 'rm -f "$report"' EXIT
# The packages ask for two builds of OpenCV that write the same files and want an X11 and GL installation. The headless
# build has the same API and wants nothing, so it takes their place; setup.sh therefore installs with --no-deps.
opencv=opencv-contrib-python-headless
.venv/bin/pip install --dry-run --ignore-installed --quiet --report "$report" '.[dev,train]' "$opencv" setuptools==80.9.0 wheel
.venv/bin/python - "$report" > requirements.lock.new <<'PY'
import json, sys

print("# Made by `make lock` from pyproject.toml; do not edit. Linux x86_64, Python 3.11.")
rows = []
for item in json.load(open(sys.argv[1]))["install"]:
    name, version = item["metadata"]["name"], item["metadata"]["version"]
    if name in ("dyconv", "opencv-python", "opencv-contrib-python"):
        continue
    digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
    rows.append(f"{name.lower().replace('_', '-')}=={version} \\\n    --hash=sha256:{digest}")
print("\n".join(sorted(rows)))
PY
mv requirements.lock.new requirements.lock
echo "requirements.lock: $(grep -c '==' requirements.lock) packages"
