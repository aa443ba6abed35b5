#!/usr/bin/env bash
# as.sh root COMMAND...   runs it as root, through sudo where need be
# as.sh user COMMAND...   runs it as the person at the keyboard, also under sudo: cargo and its files are theirs
set -euo pipefail

who=$1
shift
case $who in
root)
  [ "$EUID" -ne 0 ] || exec "$@"
  command -v sudo >/dev/null || { echo "this needs root, and there is no sudo: $*" >&2; exit 1; }
  exec sudo --preserve-env "$@"
  ;;
user)
  home=${CARGO_HOME:-$HOME/.cargo}
  if [ "$EUID" -eq 0 ] && [ "${SUDO_USER:-root}" != root ]; then
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    exec runuser -u "$SUDO_USER" -- env HOME="$home" PATH="$home/.cargo/bin:$PATH" "$@"
  fi
  PATH=$home/bin:$PATH exec "$@"
  ;;
*)
  sed -n '2,3s/^# //p' "$0" >&2
  exit 2
  ;;
esac
