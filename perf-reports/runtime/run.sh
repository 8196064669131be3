#!/usr/bin/env bash
# Makes the figures of this report again: ./run.sh [OUTPUT-DIR]. Three release builds, then about two and a half minutes a turn; needs
# some 10 GB of free disk, python3, perf or strace for the counts of system calls, and a machine of two or more processors that does
# nothing else.
#
# TURNS="1 2 3" takes those turns only; RUNTIMES="a=DIR b=DIR" compares brokers that are built already, GENERATOR=DIR with that generator.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=$(mkdir -p "${1:-$here/results}" && cd "${1:-$here/results}" && pwd)
work=$(mktemp -d)
port=${PORT:-29692}
admin=$((port + 500))
turns=${TURNS:-1 2 3 4 5}
. "$top/perf-reports/broker.sh"
awake=
trap 'stop_broker 9; [ -z "$awake" ] || kill "$awake"; rm -rf "$work"' EXIT

build() { # NAME SOURCE: a release build; prints where its programs are
  (cd "$2" && CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$top/target}" cargo build --release --bins >&2)
  mkdir "$work/$1"
  cp "${CARGO_TARGET_DIR:-$top/target}"/release/{heddle,heddle-loadgen} "$work/$1"
  echo "$work/$1"
}

copy_tree() { # the sources, with glommio as published; prints where they are
  mkdir "$work/tree"
  tar -C "$top" --exclude=./target --exclude=./.git -cf - . | tar -C "$work/tree" -xf -
  sed -i '/^\[patch.crates-io\]/,/^$/d' "$work/tree/Cargo.toml"
  echo "$work/tree"
}

broker_cpu_ns() { cat "/proc/$broker"/task/*/schedstat | awk '{sum += $1} END {printf "%.0f", sum}'; }

load() { # NAME OPTION...: one run; its JSON, with the CPU time of the broker, in OUT/NAME.json
  local name=$1 before
  shift
  before=$(broker_cpu_ns)
  "$generator/heddle-loadgen" run --json --target "native://127.0.0.1:$port" --cores 0 "$@" >"$work/run.json" 2>>"$work/loadgen.log"
  python3 - "$work/run.json" "$out/$name.json" "$(($(broker_cpu_ns) - before))" "$name" <<'PYTHON'
import json, sys
run, to, cpu_ns, name = sys.argv[1:]
figures = json.load(open(run))
figures["broker_cpu_ns"] = int(cpu_ns)
json.dump(figures, open(to, "w"), indent=1)
print(name, {key: figures.get(key) for key in ("p50_us", "p99_us", "mb_per_s", "rate_achieved", "limit_p50_us", "errors")})
PYTHON
}

count_calls() { # NAME TOPIC: system calls of the broker in three seconds of 1,000 requests each, one line for each call
  "$generator/heddle-loadgen" run --json --target "native://127.0.0.1:$port" --cores 0 --topic "$2" $one --duration 6s >/dev/null 2>>"$work/loadgen.log" &
  local generator_pid=$!
  sleep 2
  if perf stat -x, -e raw_syscalls:sys_enter true 2>/dev/null; then
    local events=raw_syscalls:sys_enter call
    for call in io_uring_enter recvfrom sendmsg membarrier write read futex; do events+=",syscalls:sys_enter_$call"; done
    perf stat -x, -e "$events" -p "$broker" sleep 3 2>&1 | awk -F, '{sub(/.*sys_enter_?/, "", $3); print ($3 == "" ? "all" : $3), $1 / 3000}' >"$out/$1.calls"
  else
    timeout 3 strace -c -f -p "$broker" -o "$work/calls" || true
    awk '$1 ~ /^[0-9.]+$/ {name = $NF == "total" ? "all" : $NF; print name, $4 / 3000}' "$work/calls" >"$out/$1.calls"
  fi
  wait "$generator_pid"
}

one="--rate 1000 --record-bytes 1024 --batch-records 1 --warmup 1s"
closed="--rate 0 --record-bytes 1024 --batch-records 1 --in-flight-max 32 --warmup 1s"
large="--rate 0 --record-bytes 1000000 --batch-bytes 1m --batch-records 1 --in-flight-max 8 --warmup 1s"
limits="--with-limits --limit-duration 1s --limit-dir $work"

one_side() { # NAME BIN-DIR TURN: all runs of one runtime
  local side=$1 bin=$2 turn=$3 client=$generator fsync async
  start_broker data
  fsync=$(topic_on_core_1 fsync --config max.message.bytes=2000000)
  async=$(topic_on_core_1 async --config max.message.bytes=2000000 --config durability=async)
  if [ "$turn" = 1 ]; then
    count_calls "$side-fsync" "$fsync"
    count_calls "$side-async" "$async"
  fi
  load "$side-fsync-$turn" --topic "$fsync" $one --duration 4s $limits
  load "$side-async-$turn" --topic "$async" $one --duration 4s
  load "$side-tail-$turn" --topic "$async" $one --duration 4s --consumers 1
  load "$side-async-closed-$turn" --topic "$async" $closed --duration 3s
  load "$side-fsync-closed-$turn" --topic "$fsync" $closed --duration 3s
  stop_broker TERM
  rm -rf "$work/data"
  start_broker data
  fsync=$(topic_on_core_1 fsync --config max.message.bytes=2000000)
  async=$(topic_on_core_1 async --config durability=async)
  load "$side-fill-$turn" --topic "$async" --rate 50000 --record-bytes 1024 --batch-records 16 --warmup 0s --duration 2s
  load "$side-consume-$turn" --topic "$async" --mode consume --consumers 1 --rewind --warmup 1s --duration 3s
  load "$side-large-fsync-$turn" --topic "$fsync" $large --duration 2s
  stop_broker TERM
  rm -rf "$work/data"
}

# Without it the processors fall asleep between requests, and how deep is not the runtime's doing.
if [ -w /dev/cpu_dma_latency ]; then
  python3 -c "import time; f = open('/dev/cpu_dma_latency', 'wb', 0); f.write(bytes(4)); time.sleep(7200)" &
  awake=$!
fi

if [ -z "${RUNTIMES:-}" ]; then
  tree=$(copy_tree)
  published=$(build published "$tree")
  (cd "$tree" && patch -p1 --quiet <"$here/glommio-ng.patch")
  RUNTIMES="glommio=$published glommio-ng=$(build ng "$tree") glommio-vendored=$(build vendored "$top")"
fi
read -ra sides <<<"$RUNTIMES"
# One generator for all, so that only the broker differs.
generator=${GENERATOR:-${sides[0]#*=}}
{
  echo "commit $(git -C "$top" rev-parse --short HEAD 2>/dev/null || echo unknown)"
  echo "kernel $(uname -r)"
  echo "cpu $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo), $(nproc) processors"
  echo "file_system $(stat -f -c %T "$work")"
  echo "cpu_dma_latency ${awake:+held at 0}"
} >"$out/machine.txt"

for turn in $turns; do
  # Every other turn the other way around, so that none is always the first.
  order=("${sides[@]}")
  [ $((turn % 2)) = 1 ] || order=($(printf '%s\n' "${sides[@]}" | tac))
  for side in "${order[@]}"; do
    one_side "${side%%=*}" "${side#*=}" "$turn"
  done
  "$generator/heddle-loadgen" limits --dir "$work" --throughput --throughput-bytes 256m --duration 1s --json >"$out/disk-$turn.json" 2>/dev/null
done
python3 "$here/summary.py" "$out" | tee "$out/summary.md"
