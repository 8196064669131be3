# What the reports share: one broker on loopback, and what it uses. For a run.sh that has set `bin` (where the programs are), `work` (a
# directory of its own), `port` and `admin` (port + 500). `client` may say where other programs that ask the broker are.
# shellcheck shell=bash disable=SC2154,SC2034
broker=

start_broker() { # DATA-DIR OPTION...: waits until it is ready; how many milliseconds that took is in ready_ms
  local begun dir=$1
  shift
  begun=$(date +%s%N)
  "$bin/heddle" serve --data-dir "$work/$dir" --listen "127.0.0.1:$port" --admin "127.0.0.1:$admin" --cores "${cores:-2}" "$@" \
    >>"$work/broker.log" 2>&1 &
  broker=$!
  until curl -sf "http://127.0.0.1:$admin/health/ready" >/dev/null; do
    kill -0 "$broker" || { tail -5 "$work/broker.log"; exit 1; }
    sleep 0.01
  done
  ready_ms=$((($(date +%s%N) - begun) / 1000000))
}

stop_broker() { # SIGNAL
  [ -n "$broker" ] || return 0
  kill "-$1" "$broker" 2>/dev/null || true
  wait "$broker" 2>/dev/null || true
  broker=
}

rss_mib() { awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$broker/status"; }
cpu_ticks() { awk '{print $14 + $15}' "/proc/$broker/stat"; }
idle_percent() { # the broker's processor time over ten seconds, in percent of one processor
  local before
  before=$(cpu_ticks)
  sleep 10
  echo "$((($(cpu_ticks) - before) * 100 / 10 / $(getconf CLK_TCK)))"
}
metric() { # NAME: its sum over all cores and labels
  curl -sf "http://127.0.0.1:$admin/metrics" | awk -v name="$1" '$1 ~ "^" name "($|[{])" {sum += $2} END {printf "%.0f\n", sum}'
}

topic_on_core_1() { # PREFIX OPTION...: a new topic whose one partition core 1 owns
  local turn name prefix=$1
  shift
  for turn in $(seq 40); do
    name="$prefix-$turn"
    "${client:-$bin}/heddle" topic create "$name" --server "127.0.0.1:$port" "$@" >/dev/null
    if "${client:-$bin}/heddle" topic describe "$name" --server "127.0.0.1:$port" | grep -Eq '^0 +1001 '; then
      echo "$name"
      return
    fi
  done
  exit 1
}

machine() { # what the figures were made on
  echo "commit $(git -C "$top" rev-parse --short HEAD 2>/dev/null || echo unknown)"
  echo "kernel $(uname -r)"
  echo "cpu $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo), $(nproc) processors"
  echo "memory $(awk '/MemTotal/ {print int($2 / 1048576)}' /proc/meminfo) GiB"
  echo "file_system $(stat -f -c %T "$work")"
}
