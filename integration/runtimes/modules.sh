#!/bin/bash
# Modules of a Debian kernel package, for the machine that kernel.sh boots.
#   modules.sh fetch PACKAGE NAME...   unpacks them and what they depend on below $CACHE, uncompressed; prints their paths
#       in the order in which they can be loaded. PACKAGE may be a build, or stand for its newest one.
#   modules.sh stop                    nothing to stop
set -euo pipefail
CACHE=${CACHE:-$RT}
PATH=$PATH:/usr/sbin:/sbin

case ${1:-} in
fetch)
  package=$2
  shift 2
  home=$CACHE/modules/$package/$(printf '%s\n' "$@" | tr '\n' '+')
  if [ ! -e "$home/complete" ]; then
    newest() { apt-cache depends "$1" 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1; }
    build=$(newest "$package")
    [ -n "$build" ] || apt-cache show "$package" >/dev/null 2>&1 || { apt-get update -qq; build=$(newest "$package"); }
    rm -rf "$home"
    mkdir -p "$home"
    work=$(mktemp -d "$CACHE/modules/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && apt-get download -qq "${build:-$package}" >/dev/null && dpkg-deb -x ./*.deb .)
    [ -d "$work/lib/modules" ] || ln -s usr/lib "$work/lib"
    version=$(basename "$work"/lib/modules/*)
    depmod -b "$work" "$version"
    number=100
    modprobe -d "$work" -S "$version" -C /dev/null --show-depends -a "$@" | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' |
      while read -r file; do
        number=$((number + 1))
        to=$home/$number-$(basename "${file%.xz}")
        case $file in
        *.xz) xz -dc "$file" >"$to" ;;
        *) cp "$file" "$to" ;;
        esac
      done
    touch "$home/complete"
  fi
  ls "$home"/*.ko
  ;;
stop) ;;
*)
  sed -n '2,6p' "$0"
  exit 2
  ;;
esac
