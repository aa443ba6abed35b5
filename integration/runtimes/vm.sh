#!/bin/bash
# The root folder of a node for the machine that kernel.sh boots with a disk: systemd, and the runtimes that this Debian has.
#   vm.sh image    makes an ext4 image of it below $CACHE, once for each list of packages, and prints its path
#   vm.sh stop     nothing to stop
set -euo pipefail
CACHE=${CACHE:-$RT}
PATH=$PATH:/usr/sbin:/sbin
packages=systemd,systemd-sysv,dbus,procps,busybox-static
packages+=,containerd,runc,containernetworking-plugins,python3-grpcio,podman,crun,catatonit,docker.io
# Besides the packages, for what is written while it runs.
free_mib=300

case ${1:-} in
image)
  disk=$CACHE/node-$(sha256sum "$0" | head -c 12).ext4
  if [ ! -e "$disk" ]; then
    mkdir -p "$CACHE"
    work=$(mktemp -d "$CACHE/node.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    rm -f "$CACHE"/node-*.ext4
    exclude=()
    for folder in doc man info locale lintian; do exclude+=("--dpkgopt=path-exclude=/usr/share/$folder/*"); done
    mmdebstrap -q --variant=minbase --include="$packages" "${exclude[@]}" "$(. /etc/os-release; echo "$VERSION_CODENAME")" \
      "$work/root" 2>"$work/log" || { tail -3 "$work/log" >&2; exit 1; }
    # A machine without an id would first set up every unit anew.
    echo 7a6f6f206f66207461727369657220aa >"$work/root/etc/machine-id"
    size=$(($(du -sm "$work/root" | cut -f 1) + free_mib))M
    mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$work/root" -E root_owner=0:0 "$work/disk" "$size" >&2
    mv "$work/disk" "$disk"
  fi
  echo "$disk" ;;
stop) ;;
*)
  sed -n '2,4p' "$0"
  exit 2
  ;;
esac
