#!/usr/bin/env bash
# Runs each fuzz target of tests/fuzz for a while, one after the other, with libFuzzer on the stable
# compiler: coverage by LLVM's pass, no sanitizer (our code has no unsafe). Needs a C++ compiler, which
# RocksDB needs anyway; cargo-fuzz and a nightly are not needed.
#
#   .ci/fuzz.sh [TARGET...]      FUZZ_SECONDS for each (default 60); default: all targets
#
# What is found on the way is kept in target/fuzz/corpus/TARGET, and an input that breaks something in
# target/fuzz/artifacts/TARGET: put that into tests/fuzz/seeds/TARGET with a test or a fix.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}
target_folder=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in tests/fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
eval "$(.ci/rocksdb.sh)"
# The same versions as the workspace's, and libFuzzer's crate beside them: no second lock file to keep.
cp Cargo.lock tests/fuzz/Cargo.lock

# With --target these flags are for our code and its dependencies, not for build scripts and macros.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
coverage+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
echo "== fuzz: build into $target_folder (minutes, once)"
bins=()
for target in "${targets[@]}"; do bins+=(--bin "$target"); done
RUSTFLAGS="$coverage" cargo build --release --manifest-path tests/fuzz/Cargo.toml \
  --target "$host" --target-dir "$target_folder" "${bins[@]}"

failed=()
for target in "${targets[@]}"; do
  echo "== fuzz: $target for $seconds s"
  corpus=$target_folder/corpus/$target
  artifacts=$target_folder/artifacts/$target
  mkdir -p "$corpus" "$artifacts"
  # The first folder is added to, the seeds are only read. One input may take 10 s and 1 GiB.
  if ! "$target_folder/$host/release/$target" "$corpus" "tests/fuzz/seeds/$target" \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=8192 -use_value_profile=1 \
    -artifact_prefix="$artifacts/" -print_final_stats=1 2> "$target_folder/$target.log"; then
    failed+=("$target")
    tail -n 40 "$target_folder/$target.log"
  fi
  grep -E '^stat::(number_of_executed_units|average_exec_per_sec|new_units_added|peak_rss_mb)' "$target_folder/$target.log" || true
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "fuzz: found something in: ${failed[*]} (inputs in $target_folder/artifacts)"
  exit 1
fi
echo "fuzz: ${#targets[@]} targets for $seconds s each, nothing found"
