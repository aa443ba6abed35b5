#!/usr/bin/env bash
# cross.sh SUBCOMMAND ARGUMENT...   cargo for aarch64, with what that takes: GNU's linker and C library, and a standard
# library. That is rustup's where it is installed, else one built from the sources beside the distribution's rustc.
# Exit status 77, with one line, where something is missing: `scripts/setup.sh --cross` gets it.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
lacks() { echo "cross: $*: scripts/setup.sh --cross" >&2; exit 77; }
subcommand=${1:?e.g. build}
shift

linker=CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER
if [ -z "${!linker:-}" ]; then
  command -v aarch64-linux-gnu-gcc >/dev/null || lacks "there is no aarch64-linux-gnu-gcc"
  export "$linker=aarch64-linux-gnu-gcc"
fi
std=()
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
  distribution=/usr/bin/rustc
  sources=$("$distribution" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/std
  [ -d "$sources" ] || lacks "there is no standard library for $target"
  std=("-Zbuild-std=std,panic_unwind")
  export RUSTC=$distribution RUSTC_BOOTSTRAP=1
fi
exec cargo "$subcommand" "${std[@]}" --target "$target" "$@"
