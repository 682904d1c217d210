#!/bin/sh
# Installs Node.js from the distribution where it is missing, and the clients of tests/node by their lock file.
set -eu
cd "$(dirname "$0")/../tests/node"
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  if [ "$(id -u)" = 0 ]; then run=""; else run="sudo -n"; fi
  $run apt-get update -q
  DEBIAN_FRONTEND=noninteractive $run apt-get install -qy --no-install-recommends nodejs npm
fi
exec 9>.installing && flock 9  # test workers may ask at the same moment: one installs, the others wait for it
[ -e node_modules/.done ] && [ ! package-lock.json -nt node_modules/.done ] && exit 0
npm ci --no-audit --no-fund --loglevel=error
touch node_modules/.done
