#!/bin/sh
# Installs PostgreSQL's programs where they are missing: from the distribution with root or sudo, else from a wheel into
# .tools. The tests start a server of their own and stop it (tests/support/postgres.py).
set -eu
cd "$(dirname "$0")/.."
command -v initdb >/dev/null && exit 0
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && exit 0
ls .tools/postgres/pgserver/pginstall/bin/initdb >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then run="sudo -n"; else run="no"; fi
if [ "$run" != no ] && command -v apt-get >/dev/null; then
  # The package would start a cluster of its own, which nobody needs.
  $run mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" | $run tee /etc/postgresql-common/createcluster.conf >/dev/null
  $run apt-get update -q && DEBIAN_FRONTEND=noninteractive $run apt-get install -qy --no-install-recommends postgresql && exit 0
fi
.venv/bin/python -m uv pip install --quiet --target .tools/postgres pgserver==0.1.4
