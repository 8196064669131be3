#!/usr/bin/env bash
# Makes the figures of this report again: ./run.sh [OUTPUT-DIR]. About fifteen minutes; needs 40 GB of free disk, Java 17 and
# Maven (Kafka's own perf tools are fetched from Maven Central in the version of tests/clients/kafka-java), python3, and a machine
# of two processors or more that does nothing else. TURNS=1 is a short version, ONLY="java group compaction" takes parts of it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=$(mkdir -p "${1:-$here/results}" && cd "${1:-$here/results}" && pwd)
bin=${HEDDLE_BIN_DIR:-$top/target/release}
only=${ONLY:-java group compaction}
work=$(mktemp -d -p "${WORK_PARENT:-/tmp}")
port=${PORT:-29592}
admin=$((port + 500))
turns=$(seq "${TURNS:-3}")
. "$top/perf-reports/broker.sh"
trap 'stop_broker 9; rm -rf "$work"' EXIT

(cd "$top" && [ -x "$bin/heddle" ] && [ -x "$bin/heddle-loadgen" ] || cargo build --release --bins)


machine >"$out/machine.txt"

# Kafka's perf tools with the defaults of the Java clients, beside what disk and loopback move.
java_tools() {
  local lib=$top/target/peers/tools turn
  [ -e "$lib" ] || mvn -B -q -f "$top/tests/clients/kafka-java/pom.xml" dependency:copy-dependencies -DoutputDirectory="$lib"
  local records=3000000 tool=org.apache.kafka.tools
  # With a budget that is used up within seconds, as in a broker that has run for long: a fresh one also pays for the first touch of
  # each page of memory.
  start_broker java --memory-bytes 256MiB
  produce() { # NAME TOPIC PROPERTY...
    local name=$1 topic=$2
    shift 2
    java -Xmx512m -cp "$lib/*" "$tool.ProducerPerformance" --topic "$topic" --num-records $records --record-size 1024 --throughput -1 \
      --producer-props "bootstrap.servers=127.0.0.1:$port" "$@" 2>/dev/null | tail -1 >"$out/$name.txt"
    cat "$out/$name.txt"
  }
  for turn in $turns; do
    "$bin/heddle" topic create "java-$turn" --partitions 16 --server "127.0.0.1:$port" >/dev/null
    "$bin/heddle" topic create "unawaited-$turn" --partitions 16 --config durability=async --server "127.0.0.1:$port" >/dev/null
    produce "java-produce-$turn" "java-$turn"
    # What the client does when it waits for nobody.
    produce "java-unawaited-$turn" "unawaited-$turn" acks=0 enable.idempotence=false
    "$bin/heddle-loadgen" run --json --target "kafka://127.0.0.1:$port" --topic "generator-$turn" --partitions 16 --producers 8 --in-flight-max 5 \
      --acks all --record-bytes 1024 --rate 0 --batch-bytes 16k --linger-us 5000 --warmup 2s --duration 5s >"$out/generator-$turn.json" 2>/dev/null
    java -Xmx512m -cp "$lib/*" "$tool.ConsumerPerformance" --topic "java-$turn" --messages $records --bootstrap-server "127.0.0.1:$port" \
      --timeout 60000 2>/dev/null | tail -1 >"$out/java-consume-$turn.txt"
    cat "$out/java-consume-$turn.txt"
    "$bin/heddle-loadgen" limits --dir "$work" --throughput --throughput-bytes 4g --duration 3s --rate 200 --json >"$out/disk-$turn.json" 2>/dev/null
    local topic
    for topic in "java-$turn" "unawaited-$turn" "generator-$turn"; do
      "$bin/heddle" topic delete "$topic" --server "127.0.0.1:$port" >/dev/null
    done
  done
  stop_broker TERM
}

group() { # NAME OPTION...: members that settle, are idle for ten seconds, and of which one leaves
  local name=$1 load
  shift
  "$bin/heddle-loadgen" group --target "kafka://127.0.0.1:$port" --topic "$name" --group "$name" --json "$@" \
    >"$out/$name.json" 2>"$work/group.log" &
  load=$!
  until grep -q '^settled' "$work/group.log"; do
    kill -0 "$load" 2>/dev/null || { cat "$work/group.log"; exit 1; }
    sleep 0.05
  done
  echo "{\"broker_cpu_percent\": $(idle_percent)}" >"$out/$name-cpu.json"
  wait "$load" || true
  cat "$out/$name.json" "$out/$name-cpu.json"
}

groups() {
  local turn
  for turn in $turns; do
    start_broker "groups-$turn"
    group "idle-$turn" --members 1000 --partitions 1000 --heartbeat 3s --duration 12s
    group "rebalance-$turn" --members 200 --partitions 1000 --heartbeat 500ms --duration 12s
    stop_broker TERM
  done
}

# The latency of a producer, without and with compaction of what twelve seconds of writing give beside it on the same core, at the default rate of compaction.
compaction() {
  local turn read_before load="--rate 1000 --record-bytes 1024 --batch-records 1 --warmup 1s --duration 15s"
  for turn in $turns; do
    # What the turn before deleted is given back to the disk for some time.
    sync
    sleep 15
    start_broker "compaction-$turn" --compaction-interval-ms 1000
    "$bin/heddle-loadgen" run --json --target "native://127.0.0.1:$port" --topic measured $load >"$out/idle-produce-$turn.json" 2>/dev/null
    "$bin/heddle-loadgen" run --json --target "native://127.0.0.1:$port" --topic compacted --partitions 4 --keys 2000000 --rate 0 \
      --record-bytes 1024 --batch-bytes 256k --config cleanup.policy=compact --config durability=async --config segment.ms=1000 \
      --config min.cleanable.dirty.ratio=0.01 --warmup 0s --duration 12s >"$out/fill-$turn.json" 2>/dev/null
    sleep 3
    read_before=$(metric heddle_log_compaction_read_bytes_total)
    "$bin/heddle-loadgen" run --json --target "native://127.0.0.1:$port" --topic measured $load >"$out/compacting-produce-$turn.json" 2>/dev/null
    echo "{\"bytes_compacted_meanwhile\": $(($(metric heddle_log_compaction_read_bytes_total) - read_before))}" >"$out/compacted-$turn.json"
    cat "$out/compacted-$turn.json"
    stop_broker TERM
    rm -rf "$work/compaction-$turn"
  done
}

case " $only " in *" java "*) java_tools ;; esac
case " $only " in *" group "*) groups ;; esac
case " $only " in *" compaction "*) compaction ;; esac
python3 "$here/summary.py" "$out" | tee "$out/summary.md"
