#!/bin/bash
# Boots another kernel in QEMU and runs a script in it. Software emulation: ten to thirty seconds a boot, and no timing
# means anything there. ARCH is Debian's word for the machine: amd64 or arm64.
#   kernel.sh fetch ARCH PACKAGE     unpacks the kernel of a Debian package below $CACHE and prints the path of its vmlinuz.
#       Installs nothing, and tells neither apt nor dpkg of this machine about ARCH.
#   kernel.sh run ARCH VMLINUZ SCRIPT FILE[:DST]...   an initramfs of busybox, SCRIPT and FILEs with their libraries; proc, sys,
#       devtmpfs, cgroup2 and loopback are there. Prints the console; the last line is the script's exit status. A FILE may be a
#       folder, which is there with its owners and modes, without libraries.
#   kernel.sh system ARCH VMLINUZ DISK SCRIPT FILE:DST...   the same, with systemd as the first process, in the root folder that
#       DISK has (see vm.sh; what is written there is lost). /it has SCRIPT and FILEs, which may be in no other folder but
#       /modules: those are loaded in the order of their names, the drivers of the disk among them.
#   kernel.sh stop                   nothing to stop: a machine powers off by itself or is ended by its time limit
set -euo pipefail
CACHE=${CACHE:-$RT}

# The lists of ARCH, from the sources of this machine, in a folder of their own.
apt() {
  local program=$1 home=$CACHE/apt.$arch
  shift
  mkdir -p "$home"/{lists/partial,cache/archives/partial}
  touch "$home/status"
  "$program" -qq -o "APT::Architecture=$arch" -o "APT::Architectures::=$arch" -o "Dir::State::Lists=$home/lists" \
    -o "Dir::State::status=$home/status" -o "Dir::Cache=$home/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root \
    "$@"
}

# unpack PACKAGE INTO
unpack() {
  local work
  work=$(mktemp -d "$CACHE/deb.XXXXXX")
  (cd "$work" && apt apt-get download "$1" >/dev/null && dpkg-deb -x ./*.deb root)
  rm -rf "$2"
  mv "$work/root" "$2"
  rm -rf "$work"
}

# add FILE DST: into the root folder $t, with the libraries it needs
add() {
  local library
  mkdir -p "$t$(dirname "$2")"
  [ ! -d "$1" ] || { cp -a "$1" "$t$2"; return; }
  cp -L "$1" "$t$2"
  if [ "$arch" = "$(dpkg --print-architecture)" ]; then
    { ldd "$1" 2>/dev/null || true; } | { grep -oE '/[^ ]+' || true; } | sort -u | while read -r library; do
      mkdir -p "$t$(dirname "$library")"
      [ -e "$t$library" ] || cp -L "$library" "$t$library"
    done
  else
    # All that a Rust program links; ldd runs nothing foreign.
    mkdir -p "$t/lib"
    for library in ld-linux-aarch64.so.1 libc.so.6 libm.so.6 libgcc_s.so.1; do
      cp -L "$(aarch64-linux-gnu-gcc -print-file-name=$library)" "$t/lib/$library"
    done
  fi
}

verb=${1:-} arch=${2:-}
case $verb:$arch in
*:amd64) machine=(qemu-system-x86_64 -M pc) console=ttyS0 limit=300 ;;
*:arm64) machine=(qemu-system-aarch64 -M virt) console=ttyAMA0 limit=300 ;;
stop:) exit 0 ;;
*)
  sed -n '2,12p' "$0"
  exit 2
  ;;
esac
shift 2

case $verb in
fetch)
  home=$CACHE/$1.$arch
  mkdir -p "$CACHE"
  if ! ls "$home"/boot/vmlinuz-* >/dev/null 2>&1; then
    apt apt-get update >&2
    # The named package is empty and depends on the newest build.
    build=$(apt apt-cache depends "$1" | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    unpack "${build:?the sources of this machine have no $1}" "$home"
    rm -rf "${home:?}/lib" "${home:?}/usr"
  fi
  ls "$home"/boot/vmlinuz-*
  ;;
run | system)
  kernel=$1 disk=
  shift
  options=(-m 1024) append="console=$console quiet panic=-1"
  if [ "$verb" = system ]; then
    disk=$1
    shift
    # An oops that only ends a process would have the others wait for it until the time is over; and runtimes that find
    # AppArmor want its tools.
    append+=" oops=panic lsm=yama systemd.show_status=0 systemd.unit=script.service"
    options=(-m 2048 -drive "file=$disk,if=virtio,format=raw,snapshot=on") limit=600
  fi
  script=$1
  shift
  t=$(mktemp -d "$RT/initrd.XXXXXX")
  trap 'rm -rf "$t" "$t.gz"' EXIT
  # Not for root alone, as it was made.
  chmod 755 "$t"
  mkdir -p "$t"/{bin,proc,sys,dev,tmp,etc,root,var,run,it}
  busybox=$CACHE/busybox.$arch
  [ -e "$busybox" ] || { mkdir -p "$CACHE"; apt apt-get update >&2; unpack busybox-static "$busybox"; }
  cp "$busybox/bin/busybox" "$t/bin/busybox"
  for file in "$@"; do add "${file%%:*}" "${file#*:}"; done
  cp "$script" "$t/${disk:+it/}script"
  cat >"$t/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs t /tmp; mount -t tmpfs r /run
if [ -e /it/script ]; then
  for module in /modules/*; do insmod "$module" || poweroff -f; done
  mount -t ext4 /dev/vda /root || poweroff -f
  mkdir -p /root/it /run/systemd/system
  mount -t tmpfs -o mode=755 i /root/it
  cp -a /it/. /root/it
  cat >/run/systemd/system/script.service <<'UNIT'
[Service]
Type=oneshot
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
ExecStart=/bin/sh -c 'echo begins; /bin/bash /it/script; echo "status $?"; systemctl poweroff -ff'
UNIT
  mount --move /run /root/run
  umount /sys /proc
  exec switch_root /root /sbin/init
fi
mkdir -p /sys/fs/cgroup; mount -t cgroup2 c /sys/fs/cgroup; ip link set lo up
echo begins; sh /script; echo "status $?"; poweroff -f
INIT
  chmod +x "$t/init"
  (cd "$t" && find . | cpio -o -H newc --quiet | gzip -1) >"$t.gz"
  timeout "$limit" "${machine[@]}" -accel tcg,thread=multi -cpu max -smp 2 "${options[@]}" -nographic -no-reboot -nic none \
    -kernel "$kernel" -initrd "$t.gz" -append "$append" </dev/null 2>&1 | tr -d '\r'
  ;;
*) exit 2 ;;
esac
