#!/usr/bin/env bash
# Finds what a build needs besides Rust, says what is missing, and installs it where apt can:
# a C++ compiler and libclang (RocksDB and its bindings), make, pkg-config, git. Called with `test`,
# cargo-nextest too (the test runner, minutes to compile), which is optional. Changes nothing when all
# is there.
set -euo pipefail

say() { echo "deps: $*"; }
has() { command -v "$1" > /dev/null 2>&1; }

has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  local file
  for file in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib64/libclang*.so* /usr/lib/libclang*.so* \
    /usr/lib/*-linux-gnu/libclang*.so* /Library/Developer/CommandLineTools/usr/lib/libclang.dylib; do
    [ -e "$file" ] && return 0
  done
  return 1
}

if ! has cargo; then
  say "Rust is missing. Install it from https://rustup.rs (1.90 or later) and call again." >&2
  exit 1
fi

missing=()
has g++ || has clang++ || missing+=(g++)
has_libclang || missing+=(libclang-dev clang)
has make || missing+=(make)
has pkg-config || missing+=(pkg-config)
has git || missing+=(git)

if [ ${#missing[@]} -gt 0 ]; then
  as_root=""
  if [ "$(id -u)" -ne 0 ]; then
    if has sudo; then as_root=sudo; [ -t 0 ] || as_root="sudo -n"; else as_root=none; fi
  fi
  if ! has apt-get || [ "$as_root" = none ]; then
    say "missing: ${missing[*]} (Debian's names). Install them with your system's package manager and call again." >&2
    exit 1
  fi
  say "missing: ${missing[*]}; installing with apt"
  export DEBIAN_FRONTEND=noninteractive
  # A machine's package lists may be old, or absent in a container: refresh them before installing.
  $as_root apt-get update -qq
  $as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
  say "installed ${missing[*]}"
fi

# cargo-nextest runs each test in its own process, with a time limit. Without it `cargo test` does
# the work: slower, and a test that hangs is not ended.
if [ "${1:-}" = test ] && ! has cargo-nextest && [ -z "${TIDEMILL_NO_NEXTEST:-}" ]; then
  say "cargo-nextest is missing; installing it (TIDEMILL_NO_NEXTEST=1 leaves it out)"
  # Its own target folder is temporary, and RocksDB's variables are not its business.
  if env -u CARGO_TARGET_DIR cargo install --quiet --locked cargo-nextest; then
    say "installed cargo-nextest"
  else
    say "cargo-nextest cannot be installed here; tests will run by cargo test"
  fi
fi
say "all there"
