#!/usr/bin/env bash
# bench.sh AGENT WORKLOAD   what the agent costs whom it watches, and itself. As root; times are of this machine and run,
# so compare the lines of one run. ROUNDS (3), CONNECTS (20000), PROCESSES (5000) may be set.
set -euo pipefail
shopt -s inherit_errexit

agent=$1 workload=$2
rounds=${ROUNDS:-3} connects=${CONNECTS:-20000} processes=${PROCESSES:-5000}
server=127.0.0.1:${BENCH_PORT:-19301} listen=127.0.0.1:${BENCH_LISTEN:-19300}
scratch=$(mktemp -d)
stats=$(sysctl -n kernel.bpf_stats_enabled)
agent_pid='' server_pid=''

stop_agent() {
  [ -n "$agent_pid" ] || return 0
  kill "$agent_pid" 2>/dev/null || true
  wait "$agent_pid" || true
  agent_pid=
}
cleanup() {
  stop_agent
  [ -z "$server_pid" ] || kill "$server_pid" 2>/dev/null || true
  sysctl -qw "kernel.bpf_stats_enabled=$stats"
  rm -rf "$scratch"
}
trap cleanup EXIT

start_agent() {
  TARSIER__HTTP__LISTEN=$listen TARSIER__ADMIN__SOCKET=$scratch/admin.sock TARSIER__AGENT__LOCK=$scratch/lock \
    "$agent" run --log-format json 2>"$scratch/agent.log" &
  agent_pid=$!
  for _ in {1..100}; do
    curl -sf "http://$listen/readyz" >/dev/null && return
    kill -0 "$agent_pid" 2>/dev/null || break
    sleep 0.1
  done
  echo "the agent does not come up:" >&2
  tail -3 "$scratch/agent.log" >&2
  exit 1
}

# Microseconds for one of a load.
connect() { per_one "$connects" connect "$server" --count "$connects" --send 100 --receive 100; }
process() { per_one "$processes" storm --count "$processes"; }
per_one() {
  local count=$1 from=${EPOCHREALTIME/[.,]/}
  shift
  "$workload" "$@" >/dev/null
  echo $(((${EPOCHREALTIME/[.,]/} - from) * 100 / count)) | sed 's/..$/.&/; s/^\./0./'
}

mkfifo "$scratch/stdin"
"$workload" serve "$server" --read 100 --answer 100 <"$scratch/stdin" >"$scratch/server" &
server_pid=$!
exec 3>"$scratch/stdin" # the server ends with it
until grep -q ready "$scratch/server"; do kill -0 "$server_pid" && sleep 0.1; done

for load in connect process; do
  for round in $(seq "$rounds"); do
    plain=$($load)
    start_agent
    watched=$($load)
    stop_agent
    awk -v l="$load" -v r="$round" -v p="$plain" -v w="$watched" \
      'BEGIN { printf "%s, round %d: %.2f us plain, %.2f us watched, kept %.3f\n", l, r, p, w, p / w }'
  done
done

# Timing every run of a program costs by itself, so it has a pass of its own.
sysctl -qw kernel.bpf_stats_enabled=1
start_agent
connect >/dev/null
process >/dev/null
sleep 6 # one totals pass more
curl -sf "http://$listen/metrics" | awk -v connects="$connects" -v processes="$processes" '
  match($0, /program="[^"]*"/) { name = substr($0, RSTART + 9, RLENGTH - 10) }
  /^tarsier_bpf_program_run_seconds_total/ { seconds[name] = $NF }
  /^tarsier_bpf_program_runs_total/ { runs[name] = $NF }
  /^tarsier_process_cpu_seconds_total/ { cpu = $NF }
  /^tarsier_process_resident_memory_bytes/ { rss = $NF }
  END {
    for (name in runs) if (runs[name] > 0)
      printf "program %s: %d runs, %.0f ns each\n", name, runs[name], seconds[name] * 1e9 / runs[name] | "sort"
    close("sort")
    printf "agent: %.2f s of CPU for %d connects and %d processes, %.1f MiB resident\n", cpu, connects, processes, rss / 1048576
  }'
