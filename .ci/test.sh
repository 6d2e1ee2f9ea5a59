#!/usr/bin/env bash
# Builds and runs every test of the workspace, by cargo-nextest or else by cargo test, then the
# doctests. The last line is always 'N passed, N failed'; the exit code is 0 only if all passed.
#
# Arguments are given to the test runner, for example: .ci/test.sh -p tidemill-core
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0
status=0
scope=("$@")
[ ${#scope[@]} -gt 0 ] || scope=(--workspace)

# Adds up what `cargo test` prints for each test binary.
count_cargo_test() {
  passed=$((passed + $(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')))
  failed=$((failed + $(sed -n 's/^test result: .* \([0-9]*\) failed;.*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')))
}

# The number before a word in nextest's summary line, for example 'Summary [ 1s] 9 tests run: 8 passed, 1 failed'.
summary() {
  sed 's/\x1b\[[0-9;]*m//g' "$log" | sed -n "s/^ *Summary .*[^0-9]\([0-9][0-9]*\) $1.*/\1/p" | awk '{n += $1} END {print n + 0}'
}

# Tests called mounted_... need a file system of their own. They fail where they cannot have one, so that
# none passes without having run; here they are left out instead, and that is said at the end.
left_out=""
nextest_filter=()
cargo_test_filter=()
probe=$(mktemp -d)
if mount -t tmpfs -o size=1m tmpfs "$probe" 2> /dev/null; then
  umount "$probe"
else
  left_out="tests that fill a disk (mounted_*), since this user may not mount a tmpfs: run them as root"
  nextest_filter=(-E 'not test(/mounted_/)')
  cargo_test_filter=(-- --skip mounted_)
fi
rmdir "$probe"

if cargo nextest --version > /dev/null 2>&1; then
  cargo nextest run "${scope[@]}" "${nextest_filter[@]}" --no-fail-fast --no-tests=pass 2>&1 | tee "$log" || status=1
  passed=$(summary passed)
  failed=$(($(summary failed) + $(summary 'timed out') + $(summary 'exec failed')))
else
  cargo test "${scope[@]}" --no-fail-fast --lib --bins --tests "${cargo_test_filter[@]}" 2>&1 | tee "$log" || status=1
  count_cargo_test
fi

echo "== doctests"
# Its report on crates without doctests is long and empty: shown only when something fails.
cargo test "${scope[@]}" --doc --no-fail-fast --quiet > "$log" 2>&1 || { status=1; cat "$log"; }
count_cargo_test

# A build that fails runs no test: that is a failure, and must not read like a clean run.
if [ $status -ne 0 ] && [ "$failed" -eq 0 ]; then
  echo "test.sh: the tests did not run to their end (see above)" >&2
  failed=1
fi
[ -z "$left_out" ] || echo "LEFT OUT: $left_out"
echo "$passed passed, $failed failed"
exit $status
