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
  start_broker java
  for turn in $turns; do
    "$bin/heddle" topic create "java-$turn" --partitions 16 --server "127.0.0.1:$port" >/dev/null
    java -Xmx512m -cp "$lib/*" "$tool.ProducerPerformance" --topic "java-$turn" --num-records $records --record-size 1024 --throughput -1 \
      --producer-props "bootstrap.servers=127.0.0.1:$port" 2>/dev/null | tail -1 >"$out/java-produce-$turn.txt"
    cat "$out/java-produce-$turn.txt"
    java -Xmx512m -cp "$lib/*" "$tool.ConsumerPerformance" --topic "java-$turn" --messages $records --bootstrap-server "127.0.0.1:$port" \
      --timeout 60000 2>/dev/null | tail -1 >"$out/java-consume-$turn.txt"
    cat "$out/java-consume-$turn.txt"
    "$bin/heddle-loadgen" limits --dir "$work" --throughput --throughput-bytes 4g --duration 3s --rate 200 --json >"$out/disk-$turn.json" 2>/dev/null
    "$bin/heddle" topic delete "java-$turn" --server "127.0.0.1:$port" >/dev/null
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

# The latency of a producer, without and with compaction of 10 GB beside it on the same core.
compaction() {
  local turn load="--rate 1000 --record-bytes 1024 --batch-records 1 --warmup 1s --duration 15s"
  # As fast as the disk allows rather than at the default rate, so that the measured stretch lies within.
  start_broker compaction --compaction-interval-ms 1000
  for turn in $turns; do
    "$bin/heddle-loadgen" run --json --target "native://127.0.0.1:$port" --topic measured $load >"$out/idle-produce-$turn.json" 2>/dev/null
    "$bin/heddle-loadgen" run --json --target "native://127.0.0.1:$port" --topic "compacted-$turn" --partitions 4 --keys 2000000 --rate 0 \
      --record-bytes 1024 --batch-bytes 256k --config cleanup.policy=compact --config durability=async --config segment.ms=1000 \
      --config min.cleanable.dirty.ratio=0.01 --warmup 0s --duration 12s >"$out/fill-$turn.json" 2>/dev/null
    local read_before written
    sleep 3
    read_before=$(metric heddle_log_compaction_read_bytes_total)
    "$bin/heddle-loadgen" run --json --target "native://127.0.0.1:$port" --topic measured $load >"$out/compacting-produce-$turn.json" 2>/dev/null
    written=$(($(metric heddle_log_compaction_read_bytes_total) - read_before))
    echo "{\"bytes_compacted_meanwhile\": $written}" >"$out/compacted-$turn.json"
    cat "$out/compacted-$turn.json"
    "$bin/heddle" topic delete "compacted-$turn" --server "127.0.0.1:$port" >/dev/null
  done
  stop_broker TERM
}

case " $only " in *" java "*) java_tools ;; esac
case " $only " in *" group "*) groups ;; esac
case " $only " in *" compaction "*) compaction ;; esac
python3 "$here/summary.py" "$out" | tee "$out/summary.md"
