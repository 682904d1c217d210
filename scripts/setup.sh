#!/bin/sh
# Makes .venv from uv.lock. Needs Python 3.11 or newer; installs uv into the environment itself, nothing outside the tree.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if [ ! -x .venv/bin/python ]; then
  echo "setting up .venv: once, a minute or so"
  if ! "$python" -m venv .venv >/dev/null 2>&1; then
    rm -rf .venv  # Debian ships Python without ensurepip
    if ! { "$python" -m venv --without-pip .venv && .venv/bin/python scripts/get_pip.py; }; then
      rm -rf .venv
      if [ "$(id -u)" = 0 ]; then apt-get update -q && apt-get install -qy python3-venv; else
        echo "neither pip nor python3-venv can be had: run 'sudo apt-get install python3-venv' and try again" >&2; exit 1; fi
      "$python" -m venv .venv
    fi
  fi
fi
.venv/bin/python -c 'import uv' 2>/dev/null || .venv/bin/python -m pip install -q "uv>=0.9"
.venv/bin/python -m uv sync --frozen --quiet --inexact
