#!/bin/bash
# Boots another kernel in QEMU and runs a script in it. Software emulation: about ten seconds a boot, and no timing means
# anything there.
#   kernel.sh fetch PACKAGE          unpacks a Debian kernel package below $CACHE, prints the path of its vmlinuz
#   kernel.sh run VMLINUZ SCRIPT FILE:DST...   an initramfs of busybox, SCRIPT and FILEs with their libraries; proc, sys,
#       devtmpfs, cgroup2 and loopback are there. Prints the console; the last line is the script's exit status.
#   kernel.sh stop                   nothing to stop: a machine powers off by itself or is ended by its time limit
set -euo pipefail
CACHE=${CACHE:-$RT}

# add FILE DST: into the root folder $t, with the libraries it needs
add() {
  local library
  mkdir -p "$t$(dirname "$2")"
  cp -L "$1" "$t$2"
  { ldd "$1" 2>/dev/null || true; } | grep -oE '/[^ ]+' | sort -u | while read -r library; do
    mkdir -p "$t$(dirname "$library")"
    [ -e "$t$library" ] || cp -L "$library" "$t$library"
  done
}

case ${1:-} in
fetch)
  mkdir -p "$CACHE/$2"
  if ! ls "$CACHE/$2"/boot/vmlinuz-* >/dev/null 2>&1; then
    # The named package is empty and depends on the newest build. Without lists apt knows neither.
    newest() { apt-cache depends "$1" 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1; }
    build=$(newest "$2")
    [ -n "$build" ] || { apt-get update -qq; build=$(newest "$2"); }
    (cd "$CACHE/$2" && apt-get download -qq "$build" >/dev/null && dpkg-deb -x ./*.deb . && rm -- ./*.deb && rm -rf lib usr)
  fi
  ls "$CACHE/$2"/boot/vmlinuz-*
  ;;
run)
  kernel=$2 script=$3
  shift 3
  t=$(mktemp -d "$RT/initrd.XXXXXX")
  trap 'rm -rf "$t" "$t.gz"' EXIT
  mkdir -p "$t"/{bin,proc,sys,dev,tmp,etc,root,var,run}
  cp -L "$(command -v busybox)" "$t/bin/busybox"
  for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$t/bin/$applet"
  done
  for file in "$@"; do add "${file%%:*}" "${file#*:}"; done
  cp "$script" "$t/script"
  cat >"$t/init" <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs t /tmp; mount -t tmpfs r /run
mkdir -p /sys/fs/cgroup; mount -t cgroup2 c /sys/fs/cgroup; ip link set lo up
sh /script; echo "status $?"; poweroff -f
INIT
  chmod +x "$t/init"
  (cd "$t" && find . | cpio -o -H newc --quiet | gzip -1) >"$t.gz"
  timeout 180 qemu-system-x86_64 -M pc -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nographic -no-reboot -nic none \
    -kernel "$kernel" -initrd "$t.gz" -append "console=ttyS0 quiet panic=-1" </dev/null 2>&1 | tr -d '\r'
  ;;
stop) ;;
*)
  sed -n '2,8p' "$0"
  exit 2
  ;;
esac
