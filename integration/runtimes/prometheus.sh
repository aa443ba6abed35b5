#!/bin/bash
# A Prometheus that scrapes TARGET every second.
#   prometheus.sh start TARGET     e.g. 127.0.0.1:10300; listens on 127.0.0.1:$PORT
#   prometheus.sh query EXPR       JSON result
#   prometheus.sh log              what it said
#   prometheus.sh stop
set -euo pipefail; . "$(dirname "$0")/common.sh"
D=$RT/prometheus; U=http://127.0.0.1:${PORT:?}
case ${1:-} in
start) mkdir -p "$D"
  printf 'global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: test\n  static_configs: [{targets: ["%s"]}]\n' "$2" >"$D/prometheus.yml"
  launch "$D" prometheus --config.file="$D/prometheus.yml" --storage.tsdb.path="$D/data" --web.listen-address="${U#http://}" --log.level=debug
  wait_for 20 curl -sf "$U/-/ready" || { tail -5 "$D/log"; exit 1; } ;;
query) curl -sf --get --data-urlencode "query=$2" "$U/api/v1/query" ;;
log) cat "$D/log" ;;
stop) stop_pid "$D/pid"; rm -rf "$D" ;;
*) sed -n '2,6p' "$0"; exit 2 ;;
esac
