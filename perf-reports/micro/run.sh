#!/usr/bin/env bash
# Counts instructions and heap allocations of one operation of each piece of the hot path, and compares with the baseline.
# Needs valgrind, which it installs on Debian and Ubuntu when it is missing and it may; takes some three minutes after the build.
#
#   perf-reports/micro/run.sh [--times] [--update] [DIR]
#
# --times also measures times (a minute more, on a machine with nothing else to do), --update makes what was counted the
# baseline. DIR is for the results; without it they go to a temporary folder. A difference is printed, and is no failure.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
readonly baseline=$here/baseline.tsv

# Operations of the two runs whose difference is counted, so that what begins and ends a run is in neither.
readonly FEW=20 MANY=120

times='' update='' results=''
for argument in "$@"; do
  case $argument in
    --times) times=yes ;;
    --update) update=yes ;;
    -*) printf 'unknown option %s; see the top of %s\n' "$argument" "$0" >&2; exit 2 ;;
    *) results=$argument ;;
  esac
done
results=${results:-$(mktemp -d)}
mkdir -p "$results"

if ! command -v valgrind >/dev/null; then
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    printf 'valgrind is not installed; install it with the package manager of this machine\n' >&2
    exit 1
  fi
  apt-get update -qq || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valgrind >/dev/null
fi

if [ -n "$times" ]; then
  DIVAN_COLOR=never cargo bench --quiet --bench hot_path | tee "$results/times.txt"
fi

mapfile -t programs < <(
  cargo bench --bench hot_path --no-run --message-format=json | grep -o '"executable":"[^"]*/hot_path-[^"]*"' | cut -d'"' -f4
)
if [ ${#programs[@]} -ne 3 ]; then
  printf '%s programs instead of those of net, log-store and core\n' "${#programs[@]}" >&2
  exit 1
fi

# instructions PROGRAM PIECE COUNT: of so many operations, what surrounds them left out.
instructions() {
  local out=$results/callgrind.out
  rm -f "$out"
  valgrind --quiet --tool=callgrind --callgrind-out-file="$out" --collect-atstart=no \
    --toggle-collect='heddle_micro::piece::measured*' "$1" --repeat "$2" "$3" >&2
  sed -n 's/^\(summary\|totals\): //p' "$out" | head -n 1
}

{
  printf 'CRC32C is computed with %s' "$("${programs[0]}" --crc-path)"
  printf ' in the times, with %s in the instructions\n' "$(valgrind --quiet --tool=none "${programs[0]}" --crc-path)"
} | tee "$results/crc.txt"

: >"$results/counts.tsv"
for program in "${programs[@]}"; do
  while IFS=$'\t' read -r piece allocations; do
    count=-
    # Executors wait for each other by spinning: what they do meanwhile is no work.
    if [[ $piece != mesh-* ]]; then
      few=$(instructions "$program" "$piece" "$FEW")
      many=$(instructions "$program" "$piece" "$MANY")
      count=$(((many - few) / (MANY - FEW)))
      if [ "$count" -le 0 ]; then
        printf '%s: %s instructions for %s operations, %s for %s: nothing was measured\n' \
          "$piece" "$few" "$FEW" "$many" "$MANY" >&2
        exit 1
      fi
    fi
    printf '%s\t%s\t%s\n' "$piece" "$count" "$allocations" | tee -a "$results/counts.tsv" >&2
  done < <("$program" --allocations)
done
rm -f "$results/callgrind.out"

python3 "$here/summary.py" "$results" "$baseline"
if [ -n "$update" ]; then
  cp "$results/counts.tsv" "$baseline"
fi
