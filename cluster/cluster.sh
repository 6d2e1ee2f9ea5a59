#!/usr/bin/env bash
# Runs a local Tidemill cluster: N nodes as processes on 127.0.0.1, for trying things out and for
# tests. For production see docs/operations.md and the systemd unit beside this file.
#
# Node 1 listens on 7450 (gRPC), 7470 (peers) and 7480 (HTTP); each next node 1,000 higher. Everything
# it writes lies in $TIDEMILL_CLUSTER_DIR/node-ID: node.toml, data/, log, pid.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: cluster/cluster.sh COMMAND

  start [N]         start N nodes (default 3), or those of an existing cluster that do not run;
                    returns when all are ready
  status            one line for each node; exit code 1 if one is not ready
  kill ID [SIGNAL]  send a signal to a node (default 9: no warning, no drain), wait until it is gone
  stop [ID]         stop one node, or all, with a drain (SIGTERM)
  restart ID        stop a node if it runs, start it, wait until it is ready
  logs ID [-f]      the end of a node's log; -f follows it
  endpoints         the gRPC addresses, for TIDEMILL_ENDPOINT
  wipe              kill all nodes and delete the cluster's folder

environment
  TIDEMILL_CLUSTER_DIR    where the cluster lives (default ./tidemill-cluster)
  TIDEMILL_CLUSTER_PORT   node 1's gRPC port (default 7450)
  TIDEMILL_PARTITIONS     groups besides the catalog, for a new cluster (default 2)
  TIDEMILL_BIN            the binary (default: the newest build of this clone, else from PATH)
  TIDEMILL_READY_SECONDS  how long to wait for a node to be ready (default 60)
TEXT
}

NODES_MAX=9 # node 9's ports stay below 32768, where the system takes ports for outgoing connections
STOP_SECONDS=40 # longer than a node's own drain deadline
clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir=${TIDEMILL_CLUSTER_DIR:-./tidemill-cluster}
case $dir in /*) ;; *) dir=$PWD/${dir#./} ;; esac
base=${TIDEMILL_CLUSTER_PORT:-7450}
ready_seconds=${TIDEMILL_READY_SECONDS:-60}
marker=.tidemill-cluster # only a folder with this file is ever deleted

die() { echo "cluster.sh: $*" >&2; exit 1; }
say() { echo "$*"; }

grpc_port() { echo $((base + ($1 - 1) * 1000)); }
peer_port() { echo $((base + ($1 - 1) * 1000 + 20)); }
http_port() { echo $((base + ($1 - 1) * 1000 + 30)); }
folder() { echo "$dir/node-$1"; }

binary() {
  if [ -n "${TIDEMILL_BIN:-}" ]; then
    [ -x "$TIDEMILL_BIN" ] || die "TIDEMILL_BIN=$TIDEMILL_BIN is not an executable file"
    echo "$TIDEMILL_BIN"
    return
  fi
  local target=${CARGO_TARGET_DIR:-$clone/target} newest="" file
  for file in "$target/release/tidemill" "$target/debug/tidemill"; do
    if [ -x "$file" ] && { [ -z "$newest" ] || [ "$file" -nt "$newest" ]; }; then newest=$file; fi
  done
  [ -n "$newest" ] || newest=$(command -v tidemill) || die "no tidemill binary: run make release, or set TIDEMILL_BIN"
  echo "$newest"
}

# The cluster's node ids, one per line; none when there is no cluster here.
ids() {
  [ -f "$dir/$marker" ] || return 0
  seq 1 "$(cat "$dir/$marker")"
}

need_cluster() { [ -f "$dir/$marker" ] || die "no cluster in $dir: run cluster.sh start"; }

need_id() {
  need_cluster
  if [[ ! ${1:-} =~ ^[1-9]$ ]] || [ ! -d "$(folder "$1")" ]; then
    die "no node '${1:-}': give one of $(ids | tr '\n' ' ')"
  fi
}

command_line() {
  if [ -r "/proc/$1/cmdline" ]; then tr '\0' ' ' < "/proc/$1/cmdline"; else ps -p "$1" -o args=; fi 2> /dev/null || true
}

# The pid of a node that runs; nothing otherwise. A pid file can outlive its process, and the system
# gives pids again: so the process must also have been started with this node's file.
pid_of() {
  local file pid
  file=$(folder "$1")/pid
  [ -f "$file" ] || return 0
  pid=$(cat "$file")
  if [ -n "$pid" ] && [[ $(command_line "$pid") == *"$(folder "$1")/node.toml"* ]]; then echo "$pid"; fi
}

# The status code of an HTTP GET on 127.0.0.1, without curl; nothing when nobody answers.
http_status() {
  (
    exec 3<> "/dev/tcp/127.0.0.1/$1"
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&3
    IFS=' ' read -r -t 2 _ code _ <&3
    echo "$code"
  ) 2> /dev/null || true
}

listens() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

write_config() {
  local id=$1 count=$2 other
  mkdir -p "$(folder "$id")"
  {
    echo "# Written by cluster.sh; cluster/node.toml documents every key."
    echo "cluster_name = \"local\""
    echo "node_id = $id"
    echo "data_dir = \"$(folder "$id")/data\""
    echo "partitions = ${TIDEMILL_PARTITIONS:-2}"
    echo
    echo "[listen]"
    echo "grpc = \"127.0.0.1:$(grpc_port "$id")\""
    echo "http = \"127.0.0.1:$(http_port "$id")\""
    echo "peer = \"127.0.0.1:$(peer_port "$id")\""
    echo
    echo "[cluster]"
    echo "bootstrap = ["
    for other in $(seq 1 "$count"); do
      echo "  { id = $other, peer = \"127.0.0.1:$(peer_port "$other")\", grpc = \"127.0.0.1:$(grpc_port "$other")\", http = \"127.0.0.1:$(http_port "$other")\" },"
    done
    echo "]"
  } > "$(folder "$id")/node.toml"
}

# Starts a node's process without waiting for it. Does nothing when it runs.
launch() {
  local id=$1 bin=$2 port pid
  [ -z "$(pid_of "$id")" ] || return 0
  for port in $(grpc_port "$id") $(peer_port "$id") $(http_port "$id"); do
    ! listens "$port" || die "node $id: port $port is taken by another process"
  done
  # Job control gives the node a process group of its own, so that Ctrl-C in this terminal does not
  # reach it. Variables that would override its file are kept from it.
  (
    set -m
    ulimit -n "$(ulimit -H -n)" 2> /dev/null || true
    nohup env -u TIDEMILL_NODE_ID -u TIDEMILL_DATA_DIR -u TIDEMILL_GRPC -u TIDEMILL_HTTP -u TIDEMILL_PEER -u TIDEMILL_CONFIG \
      "$bin" server --config "$(folder "$id")/node.toml" < /dev/null >> "$(folder "$id")/log" 2>&1 &
    echo $! > "$(folder "$id")/pid"
  )
  # For a moment the new process is still a copy of this shell, which pid_of does not take for a node.
  pid=$(cat "$(folder "$id")/pid")
  while [ -z "$(pid_of "$id")" ] && kill -0 "$pid" 2> /dev/null; do sleep 0.01; done
}

await_ready() {
  local id=$1 deadline=$((SECONDS + ready_seconds))
  until [ "$(http_status "$(http_port "$id")" /ready)" = 200 ]; do
    if [ -z "$(pid_of "$id")" ]; then
      tail -n 20 "$(folder "$id")/log" >&2
      die "node $id ended; above is the end of $(folder "$id")/log"
    fi
    [ $SECONDS -lt $deadline ] || die "node $id is not ready after $ready_seconds s (see cluster.sh logs $id)"
    sleep 0.1 # between two looks at the condition
  done
  say "node $id is ready: gRPC 127.0.0.1:$(grpc_port "$id"), http://127.0.0.1:$(http_port "$id"), pid $(pid_of "$id")"
}

# Waits until a node's process is gone; false when it is still there after so many seconds.
await_gone() {
  local deadline=$((SECONDS + $2))
  while [ -n "$(pid_of "$1")" ]; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.05 # between two looks at the condition
  done
}

start() {
  local bin id count=${1:-}
  bin=$(binary)
  if [ -f "$dir/$marker" ]; then
    local have
    have=$(cat "$dir/$marker")
    [ -z "$count" ] || [ "$count" = "$have" ] || die "$dir holds a cluster of $have nodes; wipe it, or set TIDEMILL_CLUSTER_DIR"
  else
    count=${count:-3}
    [[ $count =~ ^[1-$NODES_MAX]$ ]] || die "start takes 1 to $NODES_MAX nodes, not '$count'"
    mkdir -p "$dir"
    [ -z "$(ls -A "$dir")" ] || die "$dir is not empty and holds no cluster"
    for id in $(seq 1 "$count"); do write_config "$id" "$count"; done
    echo "$count" > "$dir/$marker" # last: it says that the rest is there
  fi
  for id in $(ids); do launch "$id" "$bin"; done
  for id in $(ids); do await_ready "$id"; done
}

status() {
  need_cluster
  local id pid code memory bad=0
  for id in $(ids); do
    pid=$(pid_of "$id")
    code=$(http_status "$(http_port "$id")" /ready)
    if [ -z "$pid" ]; then
      say "node $id  stopped"
      bad=1
      continue
    fi
    memory=$(awk '/^VmRSS/ {printf ", %d MB", $2 / 1024}' "/proc/$pid/status" 2> /dev/null || true)
    if [ "$code" = 200 ]; then code="ready"; else code="not ready (HTTP ${code:-no answer})" bad=1; fi
    say "node $id  $code  gRPC 127.0.0.1:$(grpc_port "$id"), http://127.0.0.1:$(http_port "$id"), pid $pid$memory"
  done
  return $bad
}

kill_node() {
  need_id "${1:-}"
  local signal=${2:-9} pid
  signal=${signal#-}
  pid=$(pid_of "$1")
  [ -n "$pid" ] || die "node $1 does not run"
  kill -s "$signal" "$pid"
  case $signal in
    9 | KILL | SIGKILL) await_gone "$1" 10 || die "node $1 (pid $pid) is still there 10 s after SIGKILL" ;;
    15 | TERM | SIGTERM | 2 | INT | SIGINT) await_gone "$1" $STOP_SECONDS || die "node $1 (pid $pid) did not end in $STOP_SECONDS s" ;;
    *) ;;
  esac
  say "node $1 got signal $signal"
}

# Asks all at once and waits after: a cluster that goes as a whole needs no handing over in turn.
stop() {
  need_cluster
  local id pid stuck=0 which
  if [ $# -gt 0 ]; then need_id "$1" && which=$1; else which=$(ids); fi
  for id in $which; do
    pid=$(pid_of "$id")
    [ -z "$pid" ] || kill -s TERM "$pid" 2> /dev/null || true
  done
  for id in $which; do
    if await_gone "$id" $STOP_SECONDS; then
      say "node $id is stopped"
    else
      echo "cluster.sh: node $id did not drain in $STOP_SECONDS s; killing it" >&2
      kill -s KILL "$(pid_of "$id")" 2> /dev/null || true
      await_gone "$id" 10 || die "node $id is still there after SIGKILL"
      stuck=1
    fi
  done
  return $stuck
}

restart() {
  need_id "${1:-}"
  local bin
  bin=$(binary)
  [ -z "$(pid_of "$1")" ] || stop "$1"
  launch "$1" "$bin"
  await_ready "$1"
}

wipe() {
  if [ ! -f "$dir/$marker" ]; then
    say "no cluster in $dir"
    return
  fi
  local id pid
  for id in $(ids); do
    pid=$(pid_of "$id")
    [ -z "$pid" ] || kill -s KILL "$pid" 2> /dev/null || true
  done
  for id in $(ids); do
    await_gone "$id" 10 || die "node $id is still there after SIGKILL; nothing was deleted"
  done
  for id in $(ids); do rm -rf "$(folder "$id")"; done
  rm -f "$dir/$marker"
  rmdir "$dir" 2> /dev/null || say "$dir holds other files; they stay"
  say "wiped $dir"
}

logs() {
  need_id "${1:-}"
  tail -n 100 ${2:+"$2"} "$(folder "$1")/log"
}

endpoints() {
  need_cluster
  local id all=""
  for id in $(ids); do all=$all,http://127.0.0.1:$(grpc_port "$id"); done
  echo "${all#,}"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
  start) start "$@" ;;
  status) status ;;
  kill) kill_node "$@" ;;
  stop) stop "$@" ;;
  restart) restart "$@" ;;
  logs) logs "$@" ;;
  endpoints) endpoints ;;
  wipe) wipe ;;
  help | -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
