#!/usr/bin/env bash
# setup.sh [--test] [--lint] [--fuzz] [--bench] [--cross]   installs what building needs; with flags also what
# `make test`, `make lint`, `make fuzz`, `make bench` and `make cross` need.
# Asks nothing, installs only what is missing, removes nothing, may run again at any time.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=bpf-programs/toolchain.env
. bpf-programs/toolchain.env
CARGO_DENY=0.20.2
CARGO_FUZZ=0.13.2
PATH=$PATH:/usr/sbin:/sbin
export RUSTUP_AUTO_INSTALL=0

# What is needed: a command or a file, and the Debian package that brings it. `-`: only the package will do.
build=(cc:build-essential make:make git:git protoc:protobuf-compiler
  /etc/ssl/certs/ca-certificates.crt:ca-certificates)
test=(
  ip:iproute2 nft:nftables iptables:iptables unshare:util-linux capsh:libcap2-bin curl:curl jq:jq
  -:busybox-static containerd:containerd runc:runc dockerd:docker.io podman:podman catatonit:catatonit
  /usr/lib/cni/bridge:containernetworking-plugins -:python3-grpcio -:python3-redis -:python3-psycopg2
  redis-server:redis-server redis-benchmark:redis-tools -:postgresql
  systemd-nspawn:systemd-container mmdebstrap:mmdebstrap prometheus:prometheus
  dnsmasq:dnsmasq-base dig:bind9-dnsutils dnsperf:dnsperf go:golang-go python3:python3
  nginx:nginx-light apache2:apache2 ab:apache2-utils node:nodejs npm:npm wrk:wrk
  memcached:memcached memcslap:libmemcached-tools -:python3-pymemcache -:python3-memcache
  qemu-system-x86_64:qemu-system-x86 qemu-system-aarch64:qemu-system-arm cpio:cpio depmod:kmod xz:xz-utils
  mke2fs:e2fsprogs
)
cross=(aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu /usr/aarch64-linux-gnu/lib/libc.so.6:libc6-dev-arm64-cross)
lint=(shellcheck:shellcheck)
fuzz=(c++:build-essential python3:python3)
bench=(
  ip:iproute2 setpriv:util-linux bpftool:bpftool
  dnsmasq:dnsmasq-base dnsperf:dnsperf nginx:nginx-light wrk:wrk redis-server:redis-server redis-benchmark:redis-tools -:postgresql
)
dnf_build="gcc gcc-c++ make git protobuf-compiler ca-certificates"
dnf_test="iproute nftables iptables-nft util-linux libcap curl jq busybox containerd runc moby-engine podman catatonit \
containernetworking-plugins python3-grpcio systemd-container mmdebstrap golang-github-prometheus qemu-system-x86-core \
qemu-system-aarch64-core cpio kmod xz e2fsprogs dnsmasq bind-utils dnsperf golang python3 nginx httpd \
httpd-tools nodejs nodejs-npm wrk redis python3-redis postgresql-server postgresql-contrib python3-psycopg2 memcached \
libmemcached-awesome-tools python3-pymemcache python3-memcached"
dnf_lint="ShellCheck"
dnf_fuzz="gcc-c++ python3"
dnf_bench="iproute util-linux bpftool dnsmasq dnsperf nginx wrk redis postgresql-server postgresql-contrib"
TARGET=aarch64-unknown-linux-gnu

say() { printf 'setup: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }
root() { scripts/as.sh root "$@"; }
user() { scripts/as.sh user "$@"; }
has_apt() { command -v apt-get >/dev/null; }

wanted=("${build[@]}") dnf=$dnf_build for_lint='' for_fuzz='' for_cross=''
for flag in "$@"; do
  case $flag in
  # The tests boot a kernel of the other architecture, where its linker is to be had.
  --test) wanted+=("${test[@]}") dnf+=" $dnf_test" for_cross=${for_cross:-$(! has_apt || echo yes)} ;;
  --lint) wanted+=("${lint[@]}") dnf+=" $dnf_lint" for_lint=yes ;;
  --fuzz) wanted+=("${fuzz[@]}") dnf+=" $dnf_fuzz" for_fuzz=yes ;;
  --bench) wanted+=("${bench[@]}") dnf+=" $dnf_bench" ;;
  --cross) has_apt || die "Debian's cross tools are needed, and there is no apt-get"; for_cross=yes ;;
  *) sed -n '2,3s/^# //p' "$0" >&2; exit 2 ;;
  esac
done
# An aarch64 machine is one already.
[ "$(uname -m)" != aarch64 ] || for_cross=''
[ -z "$for_cross" ] || wanted+=("${cross[@]}")

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
there() { # there COMMAND|FILE|- PACKAGE
  case $1 in
  -) ! has_apt || installed "$2" ;;
  /*) [ -e "$1" ] || installed "$2" ;;
  *) command -v "$1" >/dev/null ;;
  esac
}

updated=
apt_update() {
  [ -z "$updated" ] || return 0
  updated=yes
  root apt-get update -qq || say "apt-get update failed: going on with the lists that are there"
}
apt_install() {
  say "installing by apt: $*"
  apt_update
  # --no-remove: a machine with Docker's own containerd keeps it.
  root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends --no-remove \
    -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

packages() {
  local entry missing=()
  for entry in "${wanted[@]}"; do
    there "${entry%%:*}" "${entry#*:}" || missing+=("${entry#*:}")
  done
  if [ ${#missing[@]} -eq 0 ]; then
    say "packages: nothing is missing"
  elif has_apt; then
    apt_install "${missing[@]}"
  else
    say "packages missing here, by their Debian names: ${missing[*]}"
    die "no apt-get. On Fedora: sudo dnf install $dnf"
  fi
}

rust() {
  user cargo --version >/dev/null 2>&1 && { say "rust: $(user cargo --version)"; return; }
  user sh -c 'command -v rustup' >/dev/null ||
    die "cargo is missing: install rustup as https://rustup.rs says, then run this again"
  local channel
  channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
  say "installing Rust $channel by rustup"
  user rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy
}

# As build.rs looks for it: a nightly of rustup, or the distribution's, with the sources of core and bpf-linker's LLVM.
bpf_rustc() {
  local rustc sysroot
  for rustc in "$(nightly "$NIGHTLY")" "$(nightly nightly)" /usr/bin/rustc; do
    sysroot=$(user "${rustc:-false}" --print sysroot 2>/dev/null) || continue
    [ -d "$sysroot/lib/rustlib/src/rust/library/core" ] || continue
    user "$rustc" -vV | grep -q "^LLVM version: $LLVM\\." || continue
    echo "$rustc"
    return
  done
  return 1
}
nightly() { user rustup which --toolchain "$1" rustc 2>/dev/null || true; }
# Debian carries the compiler that its Firefox needs beside its old one; older releases of it have another LLVM.
debian_has_rustc() {
  has_apt || return 1
  apt_update
  # Read to its end: grep -q would end it by SIGPIPE, which pipefail takes for a no.
  apt-cache depends --recurse --important rustc-web 2>/dev/null | grep "libllvm$LLVM\$" >/dev/null
}

bpf_compiler() {
  local rustc
  if ! rustc=$(bpf_rustc); then
    if debian_has_rustc; then
      apt_install rustc-web rust-web-src || say "apt could not: trying rustup"
    fi
    if ! rustc=$(bpf_rustc); then
      user sh -c 'command -v rustup' >/dev/null ||
        die "no rustc with the sources of core for eBPF, and no rustup to get $NIGHTLY with: see https://rustup.rs"
      say "installing $NIGHTLY with rust-src by rustup"
      user rustup toolchain install "$NIGHTLY" --profile minimal --component rust-src --component clippy
      rustc=$(bpf_rustc) || die "$NIGHTLY is installed but lacks rust-src or LLVM $LLVM: it cannot build the programs"
    fi
  fi
  say "eBPF compiler: $rustc"
  [ -z "$for_lint" ] || [ -e "$(dirname "$rustc")/cargo-clippy" ] || bpf_clippy "$rustc"
}

bpf_clippy() {
  if [ "$1" = /usr/bin/rustc ]; then
    apt_install rust-web-clippy
  else
    user rustup component add clippy --toolchain "$(basename "$(dirname "$(dirname "$1")")")"
  fi
}

# rustup's, else built from source by whoever builds the agent: see cross.sh.
cross_std() {
  local sysroot
  sysroot=$(user rustc --print sysroot)
  [ ! -d "$sysroot/lib/rustlib/$TARGET" ] || { say "standard library for $TARGET: $sysroot"; return; }
  say "installing the standard library for $TARGET by rustup"
  user rustup target add "$TARGET" && return
  { has_apt && apt_install rustc-web rust-web-src; } || die "no standard library for $TARGET, nor its sources"
  say "rustup could not: the sources beside /usr/bin/rustc will do, the first build takes some minutes more"
}

cargo_tool() { # cargo_tool NAME VERSION
  if [ "$(user "$1" --version 2>/dev/null)" = "$1 $2" ]; then
    say "$1 $2 is there"
  else
    say "installing $1 $2 by cargo: this takes some minutes"
    user cargo install "$1@$2" --locked --quiet
  fi
}

packages
rust
bpf_compiler
[ -z "$for_cross" ] || cross_std
cargo_tool bpf-linker "$BPF_LINKER"
[ -z "$for_lint" ] || cargo_tool cargo-deny "$CARGO_DENY"
[ -z "$for_fuzz" ] || cargo_tool cargo-fuzz "$CARGO_FUZZ"
say "done"
