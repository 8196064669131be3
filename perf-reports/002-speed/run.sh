#!/usr/bin/env bash
# Makes the figures of this report again: ./run.sh [OUTPUT-DIR]. About twelve minutes; needs some 40 GB of free disk,
# python3 for the summary, strace for the system calls, and a machine of two processors or more that does nothing else.
# TURNS=1 is a short version. Run as root, or let the user write /dev/cpu_dma_latency: the profile "latency" needs it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=$(mkdir -p "${1:-$here/results}" && cd "${1:-$here/results}" && pwd)
bin=${HEDDLE_BIN_DIR:-$top/target/release}
work=$(mktemp -d -p "${WORK_PARENT:-/tmp}")
port=${PORT:-29392}
admin=$((port + 500))
turns=$(seq "${TURNS:-3}")
. "$top/perf-reports/broker.sh"
trap 'stop_broker 9; rm -rf "$work"' EXIT

(cd "$top" && [ -x "$bin/heddle" ] && [ -x "$bin/heddle-loadgen" ] || cargo build --release --bins)
rm -f "$out"/*.json "$out"/*.txt

note() { echo "$1 $2" | tee -a "$out/facts.txt"; }
load() { # NAME OPTION...: one run, its JSON in OUT/NAME.json
  local name=$1
  shift
  "$bin/heddle-loadgen" run --json --limit-dir "$work" "$@" >"$out/$name.json" 2>>"$work/loadgen.log" || true
  python3 -c "import json,sys; d=json.load(open(sys.argv[1])); print(sys.argv[2], {k: d.get(k) for k in ('p50_us','p99_us','end_to_end_p50_us','mb_per_s','ratio_p50','ratio_p99','errors')})" "$out/$name.json" "$name"
}

native="native://127.0.0.1:$port"
kafka="kafka://127.0.0.1:$port"
machine >"$out/machine.txt"

# The processor of the generator: the broker's core 0 shares it, and the measured partition is on core 1.
apart="--cores 0"
one="--rate 1000 --record-bytes 1024 --batch-records 1 --warmup 1s --duration 4s"
sixteen="--rate 10000 --record-bytes 1024 --batch-records 1 --producers 16 --warmup 1s --duration 4s"
five="--rate 5000 --record-bytes 1024 --batch-records 1 --producers 4 --warmup 2s --duration 4s"
limits="--with-limits --limit-duration 2s"

for turn in $turns; do
  for profile in latency balanced; do
    start_broker "$profile" --profile "$profile" --memory-bytes 512MiB
    # The profile latency takes its memory at start, beside its first work.
    until [ "$profile" != latency ] || [ "$(rss_mib)" -ge 1000 ]; do sleep 0.1; done
    topic=$(topic_on_core_1 "one-$turn")
    load "$profile-native-$turn" --target "$native" --topic "$topic" $one $apart $limits
    [ "$turn" != 1 ] || "$bin/heddle" cluster latency --since-start --server "127.0.0.1:$port" >"$out/stages-$profile.txt"
    load "$profile-kafka-$turn" --target "$kafka" --topic "$topic" $one $apart $limits
    load "$profile-end-to-end-$turn" --target "$native" --topic "$topic" $one $apart --consumers 1 $limits
    load "$profile-sixteen-$turn" --target "$native" --topic "$topic" $sixteen $apart $limits
    if [ "$profile" = latency ]; then
      load "partitions-1-$turn" --target "$native" --topic p1 $five $apart
      load "partitions-1000-$turn" --target "$native" --topic p1000 --partitions 1000 $five $apart
    fi
    stop_broker TERM
  done
done

if command -v strace >/dev/null; then
  start_broker calls
  topic=$(topic_on_core_1 calls)
  "$bin/heddle-loadgen" run --json --target "$native" --topic "$topic" --rate 1000 --record-bytes 1024 --batch-records 1 \
    $apart --warmup 2s --duration 8s >"$out/calls.json" 2>/dev/null &
  generator=$!
  sleep 4
  timeout -s INT 4 strace -c -f -p "$broker" 2>"$out/calls.txt" || true
  wait "$generator" || true
  stop_broker TERM
fi

for profile in balanced latency dense; do
  memory=
  [ "$profile" != latency ] || memory="--memory-bytes 512MiB" # which it has taken from the kernel when it is looked at
  start_broker "idle-$profile" --profile "$profile" $memory
  sleep 8
  note "idle_${profile}_rss_mib" "$(rss_mib)"
  note "idle_${profile}_cpu_percent" "$(idle_percent)"
  stop_broker TERM
done

disk_limits() { # NAME: what disk and loopback move, beside a throughput load
  "$bin/heddle-loadgen" limits --dir "$work" --throughput --throughput-bytes 4g --duration 3s --rate 200 --json >"$out/$1.json" 2>/dev/null
}

raw_read() { # TURN: the largest topic's own segments, read directly, four at a time
  local dir files begun bytes
  dir=$(du -s "$work/large-$profile"/topics/*/0 | sort -n | tail -1 | cut -f2)
  files=("$dir"/*.log)
  bytes=$(stat -c %s "${files[@]}" | awk '{sum += $1} END {print sum}')
  begun=$(date +%s%N)
  printf '%s\n' "${files[@]}" | xargs -P 4 -I{} dd if={} of=/dev/null bs=512K iflag=direct status=none
  awk -v bytes="$bytes" -v ns="$(($(date +%s%N) - begun))" 'BEGIN {printf "{\"raw_read_mb_per_s\": %.1f}\n", bytes * 1000 / ns}' >"$out/raw-read-$1.json"
}

memory="--memory-bytes 512MiB"
big="--rate 0 --record-bytes 1000000 --batch-bytes 1m --batch-records 1 --in-flight-max 8 $apart"
rewind="--mode consume --consumers 1 --rewind --warmup 1s --duration 4s $apart"
large="--config max.message.bytes=2000000"
for profile in balanced latency; do
  start_broker "large-$profile" $memory --profile "$profile"
  first=
  load "$profile-warm" --target "$native" --topic "$(topic_on_core_1 warm $large --config durability=async)" $big --warmup 1s --duration 3s
  for turn in $turns; do
    topic=$(topic_on_core_1 "fsync-$turn" $large)
    first=${first:-$topic}
    load "$profile-large-fsync-$turn" --target "$native" --topic "$topic" $big --warmup 1s --duration 4s
    topic=$(topic_on_core_1 "async-$turn" $large --config durability=async)
    load "$profile-large-async-$turn" --target "$native" --topic "$topic" $big --warmup 1s --duration 4s
    topic=$(topic_on_core_1 "memory-$turn" $large --config durability=async)
    load "$profile-memory-fill-$turn" --target "$native" --topic "$topic" --rate 200 --record-bytes 400000 --batch-bytes 1m $apart \
      --warmup 0s --duration 1s
    load "$profile-memory-$turn" --target "$native" --topic "$topic" $rewind
    disk_limits "$profile-disk-$turn"
  done
  if [ "$profile" = balanced ]; then
    load "fill-wal" --target "$native" --topic wal --partitions 100 --rate 20000 --record-bytes 1024 --producers 4 --warmup 1s --duration 5s
    note data_gb_before_kill "$(du -s --block-size=1G "$work/large-$profile" | cut -f1)"
    stop_broker 9
    start_broker "large-$profile" $memory
    note restart_after_kill_ms "$ready_ms"
    for turn in $turns; do
      # The raw read goes first in every other turn: a layer below that remembers what was read helps neither more.
      [ $((turn % 2)) = 0 ] || raw_read "$turn"
      load "cold-read-$turn" --target "$native" --topic "$first" --mode consume --consumers 1 --duration 20s $apart
      [ $((turn % 2)) = 1 ] || raw_read "$turn"
      stop_broker TERM
      start_broker "large-$profile" $memory
    done
  fi
  stop_broker TERM
  rm -rf "${work:?}/large-$profile"
done

start_broker empty
before=$(rss_mib)
"$bin/heddle" topic create many --partitions 10000 --server "127.0.0.1:$port"
note ten_thousand_partitions_extra_rss_mib "$(($(rss_mib) - before))"
note ten_thousand_partitions_files "$(find "$work/empty/topics" -type f | wc -l)"
stop_broker TERM
start_broker empty
note ten_thousand_partitions_start_ms "$ready_ms"
stop_broker TERM
python3 "$here/summary.py" "$out" | tee "$out/summary.md"
