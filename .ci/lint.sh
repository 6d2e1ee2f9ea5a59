#!/usr/bin/env bash
# The lint gate: formatting, clippy, documentation, dependencies, shell scripts. Changes nothing;
# runs every check even when an early one fails, and then names those that failed.
#
# `cargo deny` and `shellcheck` run where they are installed. Without cargo-deny the
# licence and source rules are still held: by tests/tests/dependencies.rs, which reads deny.toml.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
failed=()
check() {
  local name=$1
  shift
  echo "== lint: $name"
  "$@" || failed+=("$name")
}

check format cargo fmt --all -- --check
check clippy cargo clippy --workspace --all-targets --quiet -- -D warnings
check docs env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
if command -v cargo-deny > /dev/null; then
  # Advisories need a download that CI may not have; the rest needs nothing.
  check deny cargo deny --all-features check bans licenses sources
else
  echo "== lint: cargo-deny is not installed; tests/tests/dependencies.rs holds its rules"
fi
if command -v shellcheck > /dev/null; then
  scripts=()
  while IFS= read -r script; do scripts+=("$script"); done < <(find .ci cluster loadtest/peers -not -path "*/target/*" -type f \( -name '*.sh' -o -name run \) | sort)
  check shellcheck shellcheck "${scripts[@]}"
fi

if [ ${#failed[@]} -gt 0 ]; then
  echo "lint: failed: ${failed[*]}"
  exit 1
fi
echo "lint: all checks passed"
