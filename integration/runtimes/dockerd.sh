#!/bin/bash
# dockerd with its own data, containerd and socket; containers have the host's network or none. Image `busybox:test`.
#   dockerd.sh start [FLAGS] | kill | restart | stop | sock
#   dockerd.sh docker ARGUMENTS     the client of this daemon
set -euo pipefail; . "$(dirname "$0")/common.sh"
D=$RT/docker; SOCK=$D/docker.sock
d() { docker -H "unix://$SOCK" "$@"; }
up() { # --oom-score-adjust 0: the default needs CAP_SYS_RESOURCE
  # One that was killed, and its containerd with it, may still be zombies.
  rm -f "$D/docker.pid" "$D/exec/containerd/containerd.pid"
  launch "$D" dockerd --data-root "$D/data" --exec-root "$D/exec" -p "$D/docker.pid" -H "unix://$SOCK" \
    --config-file "$D/daemon.json" --storage-driver "${DRIVER:-overlay2}" --oom-score-adjust 0 --live-restore "$@"
  wait_for 30 d version || { tail -5 "$D/log"; exit 1; }
}
case ${1:-} in
start) shift; mkdir -p "$D"; echo '{}' >"$D/daemon.json"
  cat /proc/sys/net/ipv4/ip_forward >"$RT/forward"   # the daemon switches it on
  echo "$*" >"$D/flags"; up "$@"
  [ -s "$D/busybox.tar" ] || "$HERE/mkimage.sh" "$D/busybox.tar" busybox:test
  d load -q -i "$D/busybox.tar" >/dev/null ;;
docker) shift; d "$@" ;;
kill) read -r p _ <"$D/pid"; kill -KILL "$p"; while alive "$D/pid"; do sleep 0.05; done ;;
restart) # after somebody killed it
  # shellcheck disable=SC2046 # words are meant
  up $(cat "$D/flags") ;;
sock) echo "$SOCK" ;;
stop) [ -d "$D" ] || exit 0
  # One that was killed has left its containers, and only another one ends them in order.
  # shellcheck disable=SC2046 # words are meant
  alive "$D/pid" || up $(cat "$D/flags")
  read -r p _ <"$D/pid"; kill -CONT "$p"   # somebody may have stopped it
  ids=$(d ps -aq)
  # shellcheck disable=SC2086 # as here
  [ -z "$ids" ] || d rm -f $ids >/dev/null
  stop_pid "$D/pid" 20
  # The daemon leaves its bridge and its chains behind.
  if [ -n "${BRIDGED:-}" ]; then
    ip link del docker0 2>/dev/null || true
    for t in iptables ip6tables; do
      $t -t nat -S 2>/dev/null | grep -E -- '^-A .*(-j DOCKER|docker0|172\.30\.213\.)' | sed 's/^-A/-D/' | while read -r r; do eval "$t -t nat $r" 2>/dev/null || true; done || true
      $t -S FORWARD 2>/dev/null | grep -E '^-A .*(DOCKER|docker0)' | sed 's/^-A/-D/' | while read -r r; do eval "$t $r" 2>/dev/null || true; done || true
      for v in -F -X; do $t -t nat $v DOCKER 2>/dev/null || true; done
      for v in -F -X; do for c in DOCKER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2 DOCKER-USER; do
        $t $v $c 2>/dev/null || true
      done; done
      $t -P FORWARD ACCEPT 2>/dev/null || true
    done
  fi
  [ ! -s "$RT/forward" ] || cat "$RT/forward" >/proc/sys/net/ipv4/ip_forward
  umount_under "$D"; rm_cgroups docker; rm -rf "$D" ;;
*) sed -n '2,4p' "$0"; exit 2 ;;
esac
