#!/usr/bin/env bash
# The demo: three local nodes, the sample flows, 1,000 executions while the leader is killed with
# SIGKILL and brought back, then the evidence. `make demo` builds the binary and calls this.
#
#   TIDEMILL_DEMO_KEEP=1       leave the cluster and the worker running at the end
#   TIDEMILL_DEMO_EXECUTIONS   how many executions (default 1000)
#
# Everything lies in a folder of its own, which goes at the end; nothing else on the machine is touched.
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${TIDEMILL_BIN:?run it by make demo, or set TIDEMILL_BIN}
executions=${TIDEMILL_DEMO_EXECUTIONS:-1000}
rate=200 # a second, held to through the outage: each execution's time counts from when it was due
work=$(mktemp -d "${TMPDIR:-/tmp}/tidemill-demo.XXXXXX")
export TIDEMILL_CLUSTER_DIR=$work/cluster TIDEMILL_BIN=$bin
# Ports of its own, so that a cluster that runs already is left alone.
export TIDEMILL_CLUSTER_PORT=${TIDEMILL_CLUSTER_PORT:-7650}
cluster=$clone/cluster/cluster.sh
worker_pid="" hooks_pid=""

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' off=$'\e[0m'; else bold="" dim="" off=""; fi
title() { printf '\n%s== %s%s\n' "$bold" "$*" "$off"; }
say() { printf '%s\n' "$*"; }
run() { printf '%s$ tidemill %s%s\n' "$dim" "$*" "$off"; "$bin" "$@"; }

clean_up() {
  local code=$?
  if [ $code -eq 0 ] && [ -n "${TIDEMILL_DEMO_KEEP:-}" ]; then
    say "The cluster and the worker (pid $worker_pid) still run; to end them:"
    say "  kill $worker_pid; TIDEMILL_CLUSTER_DIR=$TIDEMILL_CLUSTER_DIR TIDEMILL_CLUSTER_PORT=$TIDEMILL_CLUSTER_PORT $cluster wipe"
    return
  fi
  [ -z "$hooks_pid" ] || kill "$hooks_pid" 2> /dev/null || true
  [ -z "$worker_pid" ] || kill "$worker_pid" 2> /dev/null || true
  [ -z "$worker_pid" ] || wait "$worker_pid" 2> /dev/null || true
  if [ $code -ne 0 ]; then
    say "demo: failed; the last lines of each node's log:" >&2
    for id in 1 2 3; do "$cluster" logs $id >&2 || true; done
  fi
  "$cluster" wipe > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT

# Awaits a condition: until CONDITION... is true, at most a minute.
await() {
  local what=$1 deadline=$((SECONDS + 60))
  shift
  until "$@" > /dev/null 2>&1; do
    if [ $SECONDS -ge $deadline ]; then say "demo: $what did not happen within a minute" >&2; return 1; fi
    sleep 0.05
  done
}

# The value of a key in a JSON document of one line: enough for numbers and plain texts.
field() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p" | head -n 1; }

# The value of a key on each line.
field_of() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p"; }

title "Three nodes"
"$cluster" start 3
TIDEMILL_ENDPOINT=$("$cluster" endpoints)
export TIDEMILL_ENDPOINT
run cluster status

title "A worker, which serves the sample components"
"$bin" worker example --concurrency 512 > "$work/worker.log" 2>&1 &
worker_pid=$!
say "worker example runs as pid $worker_pid"

title "The Open Integration Hub's sample flows, unmodified: applied, published, started"
flows=()
for file in "$clone"/tests/data/oih-flows/*.json; do
  case $file in */components.json) ;; *) flows+=("$file") ;; esac
done
run flow apply "${flows[@]}" "$clone/cluster/demo/orders.yaml" "$clone/cluster/demo/tick.yaml" "$clone/cluster/demo/hook.yaml" --publish --start --timeout 60s
run flow list

title "$executions executions of demo-orders, $rate a second, and the leader of its partition killed half way"
flow_partition=$("$bin" flow get demo-orders --output json | field partition)
leader_of() {
  "$bin" cluster status --output json --timeout 2s | tr '{' '\n' | grep "\"id\": *$1[,}]" | grep '"leader"' | field leader
}
leader=$(leader_of "$flow_partition")
http_port=$((TIDEMILL_CLUSTER_PORT + 30))
http_ports=("$http_port" "$((http_port + 1000))" "$((http_port + 2000))")
"$clone/cluster/demo/hooks.sh" demo-hook "$work/hooks.stop" "${http_ports[@]}" > "$work/hooks" 2> "$work/hooks.errors" &
hooks_pid=$!
say "webhook requests go to all three nodes meanwhile, and a schedule fires every second"
say "partition $flow_partition is led by node $leader"
"$bin" execution start demo-orders --count "$executions" --rate "$rate" --parallel 1000 --wait --timeout 5m --output json \
  --data '{"n": 7}' > "$work/executions.json" 2> "$work/executions.progress" &
starter=$!
half_way() { [ "$(grep -c . "$work/executions.progress")" -gt 0 ] && [ "$(tail -n 1 "$work/executions.progress" | field ended)" -ge $((executions / 2)) ]; }
await "half of the executions" half_way
killed_at=$(date +%s%N)
"$cluster" kill "$leader" 9
new_leader() { local now; now=$(leader_of "$flow_partition"); [ -n "$now" ] && [ "$now" != 0 ] && [ "$now" != "$leader" ]; }
export TIDEMILL_ENDPOINT
all_endpoints=$TIDEMILL_ENDPOINT
await "a new leader" new_leader
took_ms=$((($(date +%s%N) - killed_at) / 1000000))
say "node $leader was killed with SIGKILL; node $(leader_of "$flow_partition") leads $took_ms ms later (as seen by polling)"
"$cluster" restart "$leader"
wait $starter || { say "demo: not every execution succeeded:"; cat "$work/executions.json" "$work/executions.progress"; exit 1; }
TIDEMILL_ENDPOINT=$all_endpoints

title "What became of them"
"$bin" execution list demo-orders --limit 5
say ""
sed 's/[,{}]/\n/g' "$work/executions.json" | sed -n 's/^ *"\([a-z0-9_]*\)": *\(.*\)$/  \1 \2/p'

title "The schedule of every second kept firing: its ledger, each occurrence once"
run schedule ledger demo-tick
"$bin" schedule ledger demo-tick --last 0 --output json | tr '{' '\n' | grep '"at"' | field_of at | sort > "$work/seconds"
seconds=$(grep -c . "$work/seconds")
twice=$(uniq -d "$work/seconds" | grep -c . || true)
first=$(date -u -d "$(head -n 1 "$work/seconds")" +%s)
last=$(date -u -d "$(tail -n 1 "$work/seconds")" +%s)
say "$seconds occurrences from the first to the last second, $twice of them twice, $((last - first + 1 - seconds)) of them missing"
if [ "$twice" -ne 0 ] || [ $((last - first + 1)) -ne "$seconds" ]; then say "demo: an occurrence is missing or there twice"; exit 1; fi

title "Webhooks: each request that was answered 200 is one execution"
touch "$work/hooks.stop"
wait "$hooks_pid" || { say "demo: sending webhook requests failed:"; cat "$work/hooks.errors"; exit 1; }
hooks_pid=""
sent=$(grep -c . "$work/hooks")
stored=$("$bin" execution list demo-hook --limit 0 --output json | tr '{' '\n' | grep -c '"id"' || true)
refused=$(awk '$4 != 200' "$work/hooks" | grep -c . || true)
awk '$2 > most {most = $2} $3 > longest {longest = $3} $2 > 1 {again += 1}
  END {printf "%d requests; %d were sent again, one of them %d times; the longest took %d ms\n", NR, again, most, longest}' "$work/hooks"
say "$sent requests with an id of their own, $refused never answered 200, $stored executions"
if [ "$refused" -ne 0 ] || [ "$sent" -ne "$stored" ]; then say "demo: a webhook request is missing or there twice"; exit 1; fi

title "Commits in sequence per execution"
say "demo-orders, with three worker steps, takes 4. One more for an execution that began after the kill and before"
say "the worker had been heard of by the new leader: its first step had to wait for a lease."
for id in 1 2 3; do
  port=$((http_port + (id - 1) * 1000))
  exec 3<> "/dev/tcp/127.0.0.1/$port"
  printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
  grep -E '^tidemill_execution_commits_in_sequence_(count|bucket\{le="(4|5|6|8)"\})' <&3 | sed "s/^/node $id: /" || true
  exec 3>&-
done

title "The journal: one unbroken chain, the same on every node"
run journal verify

title "Where to look next"
say "  README.md              your first flow: tidemill dev, flow apply, execution watch"
say "  docs/flows.md          what a flow can say, and exactly how it runs"
say "  docs/workers.md        your own worker in Rust, or in any language over gRPC (proto/)"
say "  docs/operations.md     three nodes for real: bootstrap, rolling restart, backup"
say "  docs/architecture.md   how it works inside"
say "  TIDEMILL_DEMO_KEEP=1 make demo    leaves the cluster running, to try things on"
