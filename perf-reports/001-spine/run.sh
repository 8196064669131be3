#!/usr/bin/env bash
# Makes the figures of this report again: ./run.sh [OUTPUT-DIR]. About six minutes; needs some 40 GB of free disk,
# python3 for the summary, and a machine that does nothing else.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=$(mkdir -p "${1:-$here/results}" && cd "${1:-$here/results}" && pwd)
bin=${HEDDLE_BIN_DIR:-$top/target/release}
work=$(mktemp -d)
port=${PORT:-29292}
admin=$((port + 500))
cores=${CORES:-2}
spin=${SPIN_US:-}
. "$top/perf-reports/broker.sh"
trap 'stop_broker 9; rm -rf "$work"' EXIT

(cd "$top" && [ -x "$bin/heddle" ] && [ -x "$bin/heddle-loadgen" ] || cargo build --release --bins)
rm -f "$out"/*.json "$out"/facts.txt

note() { echo "$1 $2" | tee -a "$out/facts.txt"; }

load() { # NAME OPTION...: one run, its JSON in OUT/NAME.json
  local name=$1
  shift
  "$bin/heddle-loadgen" run --json --limit-dir "$work" "$@" >"$out/$name.json" 2>>"$work/loadgen.log"
  python3 -c "import json,sys; d=json.load(open(sys.argv[1])); print(sys.argv[2], {k: d.get(k) for k in ('p50_us','p99_us','mb_per_s','ratio_p50','ratio_p99','errors')})" "$out/$name.json" "$name"
}

native="native://127.0.0.1:$port"
kafka="kafka://127.0.0.1:$port"
{
  machine
  echo "cores_of_the_broker $cores, spin_us ${spin:-default}"
} >"$out/machine.txt"

start_broker small ${spin:+--spin-us "$spin"}
note fresh_rss_mib "$(rss_mib)"
note idle_cpu_percent "$(idle_percent)"

# The processor of the generator: the broker's core 0 shares it, and the measured partition is on core 1.
apart="--cores 0"
one="--rate 1000 --record-bytes 1024 --batch-records 1 --warmup 1s --duration 5s"
five="--rate 5000 --record-bytes 1024 --batch-records 1 --producers 4 --warmup 1s --duration 5s"
topic=$(topic_on_core_1 one)
for turn in 1 2 3; do
  load "durable-native-$turn" --target "$native" --topic "$topic" $one $apart --with-limits --limit-duration 2s
  load "durable-shared-$turn" --target "$native" --topic "$topic" $one --with-limits --limit-duration 2s
  load "durable-kafka-$turn" --target "$kafka" --topic "$topic" $one $apart --with-limits --limit-duration 2s
  load "end-to-end-$turn" --target "$native" --topic "$topic" $one $apart --consumers 1 --with-limits --limit-duration 2s
  load "partitions-1-$turn" --target "$native" --topic p1 $five
  load "partitions-1000-$turn" --target "$native" --topic p1000 --partitions 1000 $five
done
stop_broker TERM

start_broker large ${spin:+--spin-us "$spin"}
big="--rate 0 --record-bytes 1000000 --batch-bytes 1m --batch-records 1 --in-flight-max 8 --config max.message.bytes=2000000"
for turn in 1 2 3; do
  load "large-fsync-$turn" --target "$native" --topic "fsync-$turn" $big --warmup 1s --duration 4s
  load "large-async-$turn" --target "$native" --topic "async-$turn" $big --config durability=async --warmup 1s --duration 4s
done
note data_gb_before_kill "$(du -s --block-size=1G "$work/large" | cut -f1)"
load "fill-wal" --target "$native" --topic wal --partitions 100 --rate 20000 --record-bytes 1024 --producers 4 --warmup 1s --duration 5s
stop_broker 9
start_broker large ${spin:+--spin-us "$spin"}
note restart_after_kill_ms "$ready_ms"
for turn in 1 2 3; do
  load "cold-read-$turn" --target "$native" --topic fsync-1 --mode consume --consumers 1 --duration 20s
  "$bin/heddle-loadgen" limits --dir "$work" --throughput --duration 1s --json >"$out/disk-$turn.json" 2>/dev/null
  stop_broker TERM
  start_broker large ${spin:+--spin-us "$spin"}
done
stop_broker TERM
rm -rf "${work:?}/large"

start_broker empty ${spin:+--spin-us "$spin"}
before=$(rss_mib)
"$bin/heddle" topic create many --partitions 10000 --server "127.0.0.1:$port"
note ten_thousand_partitions_extra_rss_mib "$(($(rss_mib) - before))"
note ten_thousand_partitions_files "$(find "$work/empty/topics" -type f | wc -l)"
stop_broker TERM
start_broker empty ${spin:+--spin-us "$spin"}
note ten_thousand_partitions_start_ms "$ready_ms"
stop_broker TERM
python3 "$here/summary.py" "$out" | tee "$out/summary.md"
