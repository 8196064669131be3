#!/usr/bin/env bash
# Makes the figures of this report again: ./run.sh [OUTPUT-DIR]. About 40 minutes (it prints its estimate); needs 30 GB of
# free disk below WORK_DIR, 4 GB of memory, and a machine that does nothing else. A cell that has a result is not run
# again: FRESH=1 deletes the results first, QUICK=1 runs a few short cells, TURNS=3 is how often each side has its turn,
# ONLY="durable-p16 async-p1" runs these blocks alone. HEDDLE_BIN_DIR, HEDDLE_OPTIONS and PORT can be set.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
results=$here/results
[ "${QUICK:-0}" = 0 ] || results=$here/results-quick
results=$(mkdir -p "${1:-$results}" && cd "${1:-$results}" && pwd)

install() { # COMMAND PACKAGE: where the machine lacks the command and lets us add it
  command -v "$1" >/dev/null && return
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2"; } >/dev/null ||
    { echo "$1 is needed (package $2)"; exit 2; }
}
install java openjdk-17-jre-headless
install mvn maven
install python3 python3-minimal

export HEDDLE_BIN_DIR=${HEDDLE_BIN_DIR:-$top/target/release}
if ! [ -x "$HEDDLE_BIN_DIR/heddle" ] || ! [ -x "$HEDDLE_BIN_DIR/heddle-loadgen" ]; then
  (cd "$top" && cargo build --release --bins)
fi

KAFKA_VERSION=$(python3 -c 'import re,sys; print(re.search(r"kafka_2.13</artifactId>\s*<version>([^<]+)", open(sys.argv[1]).read())[1])' "$here/pom.xml")
export KAFKA_VERSION KAFKA_LIB_DIR=${KAFKA_LIB_DIR:-$top/target/peers/kafka-$KAFKA_VERSION}
if ! [ -e "$KAFKA_LIB_DIR/kafka_2.13-$KAFKA_VERSION.jar" ]; then
  mvn -B -q -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$KAFKA_LIB_DIR"
fi

work=$(mktemp -d ${WORK_DIR:+-p "$WORK_DIR"})
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1
python3 "$here/measure.py" "$results" "$work"
python3 "$here/summary.py" "$results"
