#!/usr/bin/env bash
# Sends webhook requests, one after the other, until the file STOP is there: each with a request id of its
# own, and again, to the next node, until it is answered 200. Nothing but bash, so that the demo needs no curl.
#
#   hooks.sh FLOW STOP PORT...
#
# Prints a line for each request: its number, tries, milliseconds, and what was answered at last.
set -euo pipefail

flow=$1 stop=$2
shift 2
ports=("$@")
# A node that is being killed may leave a request without an answer.
patience=2

# The status of one request to one port; empty when there is none.
post() {
  local port=$1 number=$2 body status=""
  body="{\"order\": $number}"
  # A port that nobody listens on is an error of the redirection itself.
  { exec 3<> "/dev/tcp/127.0.0.1/$port"; } 2> /dev/null || return 0
  printf 'POST /hook/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Request-Id: hook-%s\r\nContent-Length: %s\r\nConnection: close\r\n\r\n%s' \
    "$flow" "$number" "${#body}" "$body" >&3 2> /dev/null || true
  read -r -t $patience -u 3 _ status _ || true
  exec 3>&- 3<&-
  printf '%s' "$status"
}

number=0
while [ ! -e "$stop" ]; do
  number=$((number + 1))
  begun=$(date +%s%N)
  tries=0
  while :; do
    port=${ports[$(((number + tries) % ${#ports[@]}))]}
    tries=$((tries + 1))
    status=$(post "$port" "$number")
    [ "$status" != 200 ] || break
    if [ $tries -ge 100 ]; then break; fi
    sleep 0.05
  done
  echo "$number $tries $((($(date +%s%N) - begun) / 1000000)) $status"
  sleep 0.05
done
