#!/usr/bin/env bash
# Renews requirements.lock from pyproject.toml with the pip-compile in folder $1; more arguments go to pip-compile.
set -euo pipefail
bin=$1
shift
scratch=$(mktemp)
trap 'rm -f "$scratch"' EXIT
# What is pinned already stays, unless --upgrade or --upgrade-package says otherwise.
grep -v '^#' requirements.lock >"$scratch"
"$bin/pip-compile" --quiet --extra spark --extra bench --extra dev --generate-hashes --allow-unsafe --strip-extras \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
  --output-file "$scratch" "$@" pyproject.toml
{
  sed '/^[^#]/,$d' requirements.lock
  cat "$scratch"
} >"$scratch.new"
mv "$scratch.new" requirements.lock
