#!/usr/bin/env bash
# Creates the virtual environment $1 and installs requirements.lock into it, hashes checked.
set -euo pipefail
venv=$1

say() { printf 'setup: %s\n' "$*" >&2; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3 python3.12; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

if ! [ -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  if ! python=$(find_python); then
    say "RayLake needs Python 3.11 or 3.12, and neither is on the PATH."
    say "Debian or Ubuntu: apt-get install python3 python3-venv; elsewhere: PYTHON=/path/to/python3.11 make setup"
    exit 1
  fi
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  rm -rf "$venv"
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    say "$python can make no virtual environment: its modules venv and ensurepip are not installed."
    say "Debian or Ubuntu: apt-get install python$version-venv; then the same command again"
    exit 1
  fi
  say "creating $venv with Python $version ($python)"
  "$python" -m venv "$venv"
fi

say "installing $(grep -c '==' requirements.lock) packages (about 1 GB with Spark and Ray; 1 to 3 minutes the first time)"
start=$SECONDS
if ! "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
  --progress-bar off --no-deps --require-hashes -r requirements.lock; then
  say "pip could not install requirements.lock; its message stands above. The next run starts over from here."
  say "behind a proxy or mirror: pip's own settings are used (PIP_INDEX_URL, PIP_CERT, pip.conf)"
  exit 1
fi
say "done in $((SECONDS - start)) s"
