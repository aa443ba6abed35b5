# shellcheck shell=bash
# Sourced by the scripts of this folder. Every daemon gets its own folder under $RT, a file `pid` there, and is stopped by
# that process id only. Nothing is installed here: the tests ask for the tools and skip without them.
: "${RT:?is the folder for the files}"; mkdir -p "$RT"
# shellcheck disable=SC2034 # for those who source this
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
say() { echo "[$(basename "$0" .sh)] $*" >&2; }
alive() { # alive PIDFILE: true when the recorded process runs (same start time, not a zombie)
  local p st; [ -s "$1" ] || return 1; read -r p st <"$1"
  [ -r "/proc/$p/stat" ] || return 1
  local now state; now=$(starttime "$p") || return 1; state=$(sed 's/.*) //' "/proc/$p/stat" | cut -d' ' -f1)
  [ "$state" != Z ] && { [ -z "$st" ] || [ "$st" = "$now" ]; }
}
starttime() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
launch() { # launch DIR CMD...: starts CMD detached, output in DIR/log, id and start time in DIR/pid
  local d=$1; shift
  setsid "$@" >>"$d/log" 2>&1 </dev/null &
  local p=$!; echo "$p $(starttime $p)" >"$d/pid"
}
wait_for() { # wait_for SECONDS CMD...: polls until CMD succeeds
  local end=$((SECONDS+$1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}
stop_pid() { # stop_pid PIDFILE [SECONDS]: CONT and TERM, wait, then KILL; only the recorded process
  local f=$1 n=$(( ${2:-10} * 10 )) p
  alive "$f" || { rm -f "$f"; return 0; }
  read -r p _ <"$f"; kill -CONT "$p" 2>/dev/null || true; kill -TERM "$p" 2>/dev/null || true
  while [ $n -gt 0 ] && alive "$f"; do sleep 0.1; n=$((n-1)); done
  if alive "$f"; then kill -KILL "$p" 2>/dev/null || true; fi
  rm -f "$f"
}
rm_cgroups() { # rm_cgroups NAME...: removes empty cgroup trees by path relative to each hierarchy's root
  local h n _; for n in "$@"; do for h in /sys/fs/cgroup/*/; do
    for _ in 1 2 3 4 5 6; do   # the last tasks may still be leaving
      [ -d "$h$n" ] || break; find "$h$n" -depth -type d -exec rmdir {} \; 2>/dev/null || true
      [ ! -d "$h$n" ] || sleep 0.3; done
  done; done; return 0
}
umount_under() { # umount_under DIR: lazily unmounts everything below DIR, deepest first
  awk -v d="$1/" 'index($5, d)==1 {print $5}' /proc/self/mountinfo | sort -r | while read -r m; do umount -l "$m" 2>/dev/null || true; done
}
