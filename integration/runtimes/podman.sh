#!/bin/bash
# podman with its own storage, and its Docker-compatible service on a socket. Image `docker.io/library/busybox:test`.
#   podman.sh start | kill | restart | stop | sock
#   podman.sh podman ARGUMENTS      podman with this storage
# runc: crun refuses hybrid cgroups. Images in full: there is no registry to ask.
set -euo pipefail; . "$(dirname "$0")/common.sh"
D=$RT/podman; SOCK=$D/podman.sock IMG=docker.io/library/busybox:test; export CONTAINERS_CONF=$D/containers.conf
flags=(--root "$D/root" --runroot "$D/run" --tmpdir "$D/tmp" --cgroup-manager cgroupfs --runtime runc)
p() { podman "${flags[@]}" "$@"; }
up() { rm -f "$SOCK"; launch "$D" podman "${flags[@]}" system service -t 0 "unix://$SOCK"
  wait_for 10 test -S "$SOCK" || { tail -5 "$D/log"; exit 1; }; }
case ${1:-} in
start) mkdir -p "$D"
  cat /proc/sys/net/ipv4/ip_forward >"$RT/forward"   # the bridge plugin switches it on
  cat >"$CONTAINERS_CONF" <<T
[containers]
oom_score_adj = 0
default_ulimits = ["nofile=1024:$(ulimit -Hn)","nproc=4096:4096"]
[engine]
events_logger = "file"
T
  [ -s "$D/busybox.tar" ] || "$HERE/mkimage.sh" "$D/busybox.tar" $IMG
  p load -q -i "$D/busybox.tar" >/dev/null
  up ;;
restart) up ;;   # after somebody killed it
podman) shift; p "$@" ;;
kill) read -r pid _ <"$D/pid"; kill -KILL "$pid"; while alive "$D/pid"; do sleep 0.05; done ;;
sock) echo "$SOCK" ;;
stop) [ -d "$D" ] || exit 0
  p pod rm -fa -t 0 >/dev/null 2>&1 || true; p rm -fa -t 0 >/dev/null 2>&1 || true
  stop_pid "$D/pid"
  ip link del cni-podman0 2>/dev/null || true
  for t in iptables ip6tables; do
    $t -D FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD 2>/dev/null || true
    for v in -F -X; do for c in CNI-FORWARD CNI-ADMIN; do $t $v $c 2>/dev/null || true; done; done
    for h in PREROUTING OUTPUT; do $t -t nat -D $h -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT 2>/dev/null || true; done
    $t -t nat -D POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ 2>/dev/null || true
    for h in DNAT MASQ SETMARK; do for v in -F -X; do $t -t nat $v CNI-HOSTPORT-$h 2>/dev/null || true; done; done
  done
  [ ! -s "$RT/forward" ] || cat "$RT/forward" >/proc/sys/net/ipv4/ip_forward
  umount_under "$D"; rm_cgroups libpod_parent conmon; rm -rf "$D" ;;
*) sed -n '2,5p' "$0"; exit 2 ;;
esac
