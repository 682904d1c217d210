#!/bin/sh
# Builds the mock upstream and the load generator, installs nginx where it is missing, and runs ours beside it.
set -eu
cd "$(dirname "$0")/.."
command -v cc >/dev/null && command -v nginx >/dev/null || {
  if [ "$(id -u)" = 0 ]; then run=""; else run="sudo -n"; fi
  $run apt-get update -q
  DEBIAN_FRONTEND=noninteractive $run apt-get install -qy --no-install-recommends gcc libc6-dev nginx-light
}
mkdir -p .tools
cc -O2 -o .tools/mock bench/mock.c
cc -O2 -o .tools/loadgen bench/loadgen.c
exec .venv/bin/python bench/bench.py "$@"
