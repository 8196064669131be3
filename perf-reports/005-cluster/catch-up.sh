#!/usr/bin/env bash
# How fast a node that was away is filled up: records as fast as they go for WRITING (default 20s) while one of three is down,
# then the time until it is in sync again, beside what the disk writes and reads, and what a copy of the same shape makes of
# it; with LOAD=10s while 500 records a second go on for so long, whose latency is printed too, and that of single durable
# writes to the same disk. RATE is the limit of a stream (default: none to speak of). Takes three times the records on disk.
# With OTHER_DISK=FOLDER the node that is filled up has its data there: elsewhere than the two that clients wait for.
# Needs a release build. See README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
rate=${RATE:-1TiB}
dir=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
other=
if [[ -n ${OTHER_DISK:-} ]]; then
    other=$(mktemp -d -p "$OTHER_DISK")
    mkdir "$dir/3"
    ln -s "$other" "$dir/3/data"
fi
loadgen=target/release/heddle-loadgen
finish() {
    deploy/three-nodes "$dir" stop >/dev/null
    rm -rf "$dir" ${other:+"$other"}
}
trap finish EXIT
export HEDDLE_CATCH_UP_BYTES_PER_SECOND=$rate
deploy/three-nodes "$dir" >/dev/null
target/release/heddle topic create filled --partitions 6 --replication-factor 3 --config min.insync.replicas=2 >/dev/null
hot() {
    "$loadgen" run --target kafka://127.0.0.1:9092 --topic hot --partitions 1 --replication-factor 3 \
        --config min.insync.replicas=2 --rate 500 --batch-records 1 --duration "$1" --spin-us 0 >"$dir/hot" 2>&1 || cat "$dir/hot"
    grep produce "$dir/hot"
}
raw() { "$loadgen" limits --dir "$dir" --rate 500 --duration "$1" | grep "durable write"; }
# Bytes sent to node 3 so far, by both others.
sent() { for port in 9644 9744; do curl -sf "http://127.0.0.1:$port/metrics"; done | awk '/^heddle_stream_sent_bytes.*peer_node="3"/ {n += $2} END {printf "%.0f", n}'; }
hot 5s >/dev/null
echo "hot records, nothing else going on: $(hot 15s)"
[[ -z ${LOAD:-} ]] || raw 5s
kill -9 "$(cat "$dir/3/pid")"
sleep 12
"$loadgen" run --target kafka://127.0.0.1:9092 --topic filled --partitions 6 --replication-factor 3 --rate 0 --in-flight-max 4 \
    --batch-bytes 512k --duration "${WRITING:-20s}" | grep rate
size() { du -sm "$1" | cut -f1; }
wanted=$(size "$dir/1/data/topics")
sleep 5
begin=$(date +%s.%N)
deploy/three-nodes "$dir" >/dev/null
first=$(date +%s.%N)
if [[ -n ${LOAD:-} ]]; then
    hot "$LOAD" &
    raw "$LOAD" &
fi
# Each look starts a dozen processes on the processors of the nodes: rarely, where latency is measured.
poll=0.2
[[ -z ${LOAD:-} ]] || poll=2
metric() { curl -sf "http://127.0.0.1:$1/metrics" | awk -v name="$2" '$1 ~ "^"name {n += $2} END {print n + 0}'; }
until [[ $(metric 9644 heddle_partitions_under_replicated) == 0 && $(metric 9744 heddle_partitions_under_replicated) == 0 ]]; do sleep "$poll"; done
end=$(date +%s.%N)
wait
awk -v mib="$wanted" -v begin="$begin" -v first="$first" -v end="$end" -v sent="$(sent)" 'BEGIN {
    printf "caught up with %d MiB in %.1f s from the start of the process: %.0f MB/s\n", mib, end - begin, mib * 1.048576 / (end - begin)
    printf "from when it was ready: %.1f s, %.0f MB/s; sent to it: %.0f MB\n", end - first, mib * 1.048576 / (end - first), sent / 1e6
}'
"$loadgen" limits --dir "$dir" --duration 3s --throughput | tail -1
python3 perf-reports/005-cluster/disk-to-disk.py "$dir"
