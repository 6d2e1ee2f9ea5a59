#!/usr/bin/env bash
# Builds the static RocksDB library once per version into a cache folder, and prints the
# environment that makes every cargo profile link it. RocksDB costs about 1,450 CPU seconds to
# compile, in any profile; with the cache no build of Tidemill ever compiles it again.
#
#   eval "$(.ci/rocksdb.sh)"        build it if it is missing, then set ROCKSDB_LIB_DIR etc.
#
# Callers at the same time build once: the others wait for the lock. The folder .rocksdb in the
# clone is made to point at the library, so that a bare `cargo build` and an editor find it too
# (see .cargo/config.toml).
#
# TIDEMILL_CACHE (default ~/.cache/tidemill) is where the library is kept.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
cache=${TIDEMILL_CACHE:-$HOME/.cache/tidemill}
version=$(sed -n 's/^rocksdb = { version = "=\{0,1\}\([0-9.]*\)".*/\1/p' "$here/Cargo.toml")
[ -n "$version" ] || { echo "rocksdb.sh: no rocksdb version found in Cargo.toml" >&2; exit 1; }
# The features are part of the name: another set gives another library.
folder="$cache/rocksdb-$version-lz4-$(uname -m)"

build() {
  echo "rocksdb.sh: building RocksDB for crate $version into $folder (once; about 13 minutes on 2 cores)" >&2
  work=$(mktemp -d "$cache/build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/src"
  cat > "$work/Cargo.toml" <<TOML
[package]
name = "rocksdb-once"
version = "0.0.0"
edition = "2021"
[workspace]
[dependencies]
rocksdb = { version = "=$version", default-features = false, features = ["bindgen-runtime", "lz4"] }
TOML
  echo 'fn main() {}' > "$work/src/main.rs"
  # Pin librocksdb-sys to what the workspace's lock file names, so that headers and library agree.
  [ -f "$here/Cargo.lock" ] && cp "$here/Cargo.lock" "$work/Cargo.lock"
  # x86-64-v2 is the oldest CPU with hardware CRC32C, which RocksDB's checksums use.
  flags=""; [ "$(uname -m)" = x86_64 ] && flags="-march=x86-64-v2"
  (cd "$work" && env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC -u RUSTC_WRAPPER -u CARGO_TARGET_DIR -u RUSTFLAGS \
      CXXFLAGS="$flags" CFLAGS="$flags" cargo build --release --quiet --target-dir "$work/target") >&2
  built=$(find "$work/target/release/build" -path '*librocksdb-sys*/out/librocksdb.a' | head -n 1)
  [ -n "$built" ] || { echo "rocksdb.sh: the build left no librocksdb.a" >&2; exit 1; }
  # A rename makes the library appear whole or not at all, also where flock is missing.
  cp "$built" "$folder/librocksdb.a.$$" && mv "$folder/librocksdb.a.$$" "$folder/librocksdb.a"
}

if [ ! -f "$folder/librocksdb.a" ]; then
  mkdir -p "$folder"
  # The lock is on a file of the cache, released by the system whatever becomes of this process.
  if command -v flock > /dev/null; then
    exec 9> "$folder.lock"
    if ! flock --nonblock 9; then
      echo "rocksdb.sh: another process is building RocksDB; waiting for it" >&2
      flock 9
    fi
  fi
  [ -f "$folder/librocksdb.a" ] || build 9>&-
fi
if [ "$(readlink "$here/.rocksdb" 2> /dev/null || true)" != "$folder" ]; then
  ln -sfn "$folder" "$here/.rocksdb" 2> /dev/null || true # a read-only clone builds all the same
fi
echo "export ROCKSDB_LIB_DIR='$folder'"
echo "export ROCKSDB_STATIC=1"
