#!/usr/bin/env bash
# Real faults against three brokers in network namespaces, as root: FAULTS of them (default 40) from SEED (default 1), and
# the figures of results/. Needs a release build. See README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seed=${SEED:-1}
faults=${FAULTS:-40}
results=perf-reports/005-cluster/results
mkdir -p "$results"
target/release/heddle-cluster doctor
target/release/heddle-cluster run --seed "$seed" --faults "$faults" --heddle target/release/heddle \
  --report "$results/faults-$seed.tsv" "$@" | tee "$results/summary-$seed.txt"
