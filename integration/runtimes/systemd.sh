#!/bin/bash
# A real systemd as PID 1 (with journald and dbus-daemon) in systemd-nspawn, from a Debian root that mmdebstrap makes once in $ROOT.
#   systemd.sh start [nspawn flags]   e.g. --private-network, --bind-ro=/path/to/agent:/agent
#   systemd.sh exec CMD...            runs CMD inside (all namespaces): systemctl, journalctl ...
#   systemd.sh leader                 host process id of its PID 1
#   systemd.sh rootfs                 its root folder as seen from the host
#   systemd.sh stop
set -euo pipefail; . "$(dirname "$0")/common.sh"
D=$RT/systemd; : "${ROOT:?}" "${MACHINE:?}"; PKGS=systemd,systemd-sysv,dbus,iproute2,procps
leader() { local p _; read -r p _ <"$D/pid"; awk '{print $1}' "/proc/$p/task/$p/children"; }
ready() { local l; l=$(leader); [ -n "$l" ] && nsenter -t "$l" -a systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; }
case ${1:-} in
start) shift; mkdir -p "$D"
  if [ ! -e "$ROOT/.made" ]; then
    rm -rf "$ROOT"
    mmdebstrap -q --variant=minbase --include="$PKGS" "$(. /etc/os-release; echo "$VERSION_CODENAME")" "$ROOT" 2>"$D/mmdebstrap.log" || { tail -3 "$D/mmdebstrap.log"; exit 1; }
    mkdir -p "$ROOT/var/log/journal"; touch "$ROOT/.made"
  fi
  # --register=no --keep-unit: there may be no systemd above. --volatile=overlay: the root stays as it was made.
  launch "$D" systemd-nspawn -q -b -D "$ROOT" --volatile=overlay --register=no --keep-unit -M "$MACHINE" --console=pipe "$@"
  wait_for 30 ready || { tail -5 "$D/log"; exit 1; } ;;
exec) shift; nsenter -t "$(leader)" -a -- "$@" ;;
leader) leader ;;
rootfs) echo "/proc/$(leader)/root" ;;
stop)
  if alive "$D/pid"; then l=$(leader)
    kill -s SIGRTMIN+4 "$l" 2>/dev/null || true      # asks that systemd to power off
    n=150; while [ $n -gt 0 ] && alive "$D/pid"; do sleep .1; n=$((n-1)); done; stop_pid "$D/pid" 1
  fi
  # nspawn puts its tree in the cgroup it was started in, or at the root
  rm_cgroups payload supervisor; rm -rf "$D" ;;
*) sed -n '2,8p' "$0"; exit 2 ;;
esac
