#!/usr/bin/env bash
# Puts the peers' servers into a cache folder, without touching the system: Restate from the npm
# registry, etcd from Debian's package (unpacked, not installed). Says what it does; leaves out with a
# message what this machine cannot get.
#
# TIDEMILL_CACHE (default ~/.cache/tidemill): they go into its folder `peers`.
set -euo pipefail
restate_version=1.7.12
folder=${TIDEMILL_CACHE:-$HOME/.cache/tidemill}/peers
say() { echo "peers: $*" >&2; }

restate() {
  [ -x "$folder/restate/restate-server" ] && return
  command -v npm > /dev/null || { say "no npm here: Restate is left out"; return; }
  say "getting Restate $restate_version from the npm registry into $folder/restate (75 MB)"
  mkdir -p "$folder/restate"
  # No install scripts: one of its dependencies reports each installation to its maker.
  npm install --prefix "$folder/restate" --ignore-scripts --no-audit --no-fund --silent \
    "@restatedev/restate-server@$restate_version" || { say "npm failed: Restate is left out"; return; }
  # The package starts the server through node; the server itself is beside it.
  local server
  server=$(find "$folder/restate/node_modules/@restatedev" -path '*/bin/restate-server' -type f -size +1M | head -n 1)
  [ -n "$server" ] || { say "the package holds no server for this machine: Restate is left out"; return; }
  ln -sfn "$server" "$folder/restate/restate-server"
}

etcd() {
  [ -x "$folder/etcd/usr/bin/etcd" ] && return
  # -P: on the PATH; this function has the same name.
  type -P etcd > /dev/null && return
  if ! command -v apt-get > /dev/null || ! command -v dpkg > /dev/null; then
    say "not a Debian: etcd is left out (put an etcd on the PATH)"
    return
  fi
  say "getting Debian's etcd-server into $folder/etcd (unpacked there, not installed)"
  mkdir -p "$folder/etcd"
  (cd "$folder/etcd" && apt-get download -qq etcd-server && dpkg -x etcd-server_*.deb .) \
    || say "the package cannot be got: etcd is left out"
}

restate
etcd
