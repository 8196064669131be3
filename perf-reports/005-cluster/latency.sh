#!/usr/bin/env bash
# Latency of a produce to three nodes on this machine (RF 3, two of three must hold it, fsync, 1 KiB, 500/s) beside an echo of
# the same shape, and with one backup stopped; TURNS (default 5) of each in turn. Needs a release build. See README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
turns=${TURNS:-5}
dir=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
results=perf-reports/005-cluster/results/latency.tsv
loadgen=target/release/heddle-loadgen
stopped=
finish() {
    [[ -z $stopped ]] || kill -CONT "$stopped"
    deploy/three-nodes "$dir" stop
    rm -rf "$dir"
}
trap finish EXIT
deploy/three-nodes "$dir" >/dev/null

# One field of a JSON object on stdin, as in .replicated.p50_us.
field() { python3 -c 'import json,sys; v=json.load(sys.stdin)
for k in sys.argv[1].split("."): v=v[k]
print(v)' "$1"; }

produce() {
    "$loadgen" run --target native://127.0.0.1:9092 --topic latency --partitions 1 --replication-factor 3 \
        --config min.insync.replicas=2 --rate 500 --batch-records 1 --duration 10s --spin-us 0 --json
}
echo_of() { "$loadgen" limits --dir "$dir" --bytes 1100 --rate 500 --replicas 3 --duration 5s --json; }

produce >/dev/null # makes the topic, and warms up
line() { printf '%s\t%s\t%s\t%s\n' "$@" | tee -a "$results"; }
: >"$results"
line turn what p50_us p99_us
for turn in $(seq "$turns"); do
    found=$(echo_of)
    line "$turn" "write plus round trip" "$(field limit_p50_us <<<"$found")" "$(field limit_p99_us <<<"$found")"
    line "$turn" "echo of three" "$(field replicated.p50_us <<<"$found")" "$(field replicated.p99_us <<<"$found")"
    found=$(produce)
    line "$turn" "produce" "$(field p50_us <<<"$found")" "$(field p99_us <<<"$found")"
    # The leader's connections to clients are of no use to say who leads; the metrics are.
    for node in 1 2 3; do
        led=$(curl -sf "http://127.0.0.1:$((9644 + 100 * (node - 1)))/metrics" | awk '$1 ~ /^heddle_partitions_led/ {n += $2} END {print n + 0}')
        [[ $led == 0 ]] && backup=$node
    done
    stopped=$(cat "$dir/$backup/pid")
    kill -STOP "$stopped"
    found=$(produce)
    kill -CONT "$stopped"
    stopped=
    line "$turn" "produce, a backup stopped" "$(field p50_us <<<"$found")" "$(field p99_us <<<"$found")"
    sleep 5
done
