#!/usr/bin/env bash
# Finds what a build needs besides Rust, says what is missing, and installs it where apt can:
# a C++ compiler and libclang (RocksDB and its bindings), make, pkg-config, git. Called with `test` or
# `campaign`, what fault campaigns use of the system too (ip, tc, nft, cc); with `test` cargo-nextest
# (the test runner, minutes to compile). Those are optional: without them less is tested, and it says so.
# Changes nothing when all is there.
set -euo pipefail

say() { echo "deps: $*"; }
has() { command -v "$1" > /dev/null 2>&1; }

has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  local file
  for file in /usr/lib/llvm-*/lib/libclang[.-]*so* /usr/lib64/libclang[.-]*so* /usr/lib/libclang[.-]*so* \
    /usr/lib/*-linux-gnu/libclang[.-]*so* /Library/Developer/CommandLineTools/usr/lib/libclang.dylib; do
    case $file in
      */libclang-cpp*) ;; # the C++ interface, which comes with other packages too and is of no use to bindgen
      *) [ -e "$file" ] && return 0 ;;
    esac
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

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  if has sudo; then as_root=sudo; [ -t 0 ] || as_root="sudo -n"; else as_root=none; fi
fi

# A machine's package lists may be old, or absent in a container: they are refreshed before installing.
install() {
  export DEBIAN_FRONTEND=noninteractive
  $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends "$@" > /dev/null
}

if [ ${#missing[@]} -gt 0 ]; then
  if ! has apt-get || [ "$as_root" = none ]; then
    say "missing: ${missing[*]} (Debian's names). Install them with your system's package manager and call again." >&2
    exit 1
  fi
  say "missing: ${missing[*]}; installing with apt"
  install "${missing[@]}"
  say "installed ${missing[*]}"
fi

# Only root can cut links and lose packets, so only root needs the means for it.
if [[ "${1:-}" =~ ^(test|campaign)$ ]] && [ "$(id -u)" -eq 0 ]; then
  PATH="$PATH:/usr/sbin:/sbin"
  means=()
  if ! has ip || ! has tc; then means+=(iproute2); fi
  has nft || means+=(nftables)
  has cc || means+=(gcc libc6-dev)
  if [ ${#means[@]} -gt 0 ] && has apt-get; then
    say "missing for fault campaigns: ${means[*]}; installing with apt"
    if install "${means[@]}"; then
      say "installed ${means[*]}"
    else
      say "${means[*]} cannot be installed here; the faults that need them are left out"
    fi
  elif [ ${#means[@]} -gt 0 ]; then
    say "missing for fault campaigns: ${means[*]} (Debian's names); the faults that need them are left out"
  fi
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
