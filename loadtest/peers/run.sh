#!/usr/bin/env bash
# Measures Tidemill and its peers in turn; `make bench-peers` calls it. Arguments go to
# `tidemill-peers bench` (see --help), except:
#
#   --install   first put the peers' servers into the cache (see install.sh)
#
# Needs TIDEMILL_BIN and TIDEMILL_LOADTEST (make sets them), or measures the peers alone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
arguments=()
for argument in "$@"; do
  if [ "$argument" = --install ]; then "$here/install.sh"; else arguments+=("$argument"); fi
done
folder=${TIDEMILL_CACHE:-$HOME/.cache/tidemill}/peers
# Nothing to compare with: say so before 230 crates are compiled.
if ! command -v etcd > /dev/null && ! command -v restate-server > /dev/null \
  && [ ! -x "$folder/etcd/usr/bin/etcd" ] && [ ! -x "$folder/restate/restate-server" ] \
  && [[ " ${arguments[*]} " != *" --restate"* && " ${arguments[*]} " != *" --etcd"* ]]; then
  echo "SKIPPED: neither Restate nor etcd is installed; 'make bench-peers ARGS=--install' gets them into $folder"
  exit 0
fi
target=${CARGO_TARGET_DIR:-$here/target}
cargo build --release --quiet --locked --manifest-path "$here/Cargo.toml" --target-dir "$target"
exec "$target/release/tidemill-peers" bench "${arguments[@]}"
