#!/usr/bin/env bash
# fuzz.sh   runs the fuzz targets of integration/fuzz, one on each processor. In the environment: RUNS of each (1000000),
# TARGETS (all), SEED (1: the same inputs each time; 0: others). Whatever is found is left in integration/fuzz/artifacts, and
# a line says how to do it again.
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-1000000} SEED=${SEED:-1}
root=${CARGO_TARGET_DIR:-target}
mkdir -p "$root/fuzz"
root=$(cd "$root/fuzz" && pwd)
cd integration/fuzz
# The toolchain of the rest will do: what finds wrong memory needs a nightly, and there is next to no unsafe code.
options=(--fuzz-dir . --sanitizer none --target-dir "$root")
# The fuzzed parsers need no programs.
export TARSIER_BPF=skip

readarray -t known < <(cargo fuzz list --fuzz-dir .)
[ ${#known[@]} -gt 0 ] || { echo "fuzz: there are no targets" >&2; exit 1; }
read -ra targets <<<"${TARGETS:-${known[*]}}"
for target in "${targets[@]}"; do
  [[ " ${known[*]} " == *" $target "* ]] || { echo "fuzz: no target $target, only ${known[*]}" >&2; exit 2; }
done

# Longer inputs find nothing more there, and cost time.
longest() {
  case $1 in
  lanes) echo 128 ;;
  sql | proc_tcp | cgroup_file) echo 512 ;;
  *) echo 1024 ;;
  esac
}

run() { # run TARGET: its last line says what came of it
  local target=$1 begin=$SECONDS corpus log words=()
  corpus=$root/corpus/$target log=$root/$target.log
  rm -rf "$corpus"
  mkdir -p "$corpus"
  [ ! -e "dictionaries/$target" ] || words=("-dict=dictionaries/$target")
  if cargo fuzz run "${options[@]}" "$target" "$corpus" "$root/seeds/$target" -- "-runs=$RUNS" "-seed=$SEED" \
    "-max_len=$(longest "$target")" -timeout=10 -print_final_stats=1 "${words[@]}" >"$log" 2>&1 &&
    grep -q "^Done $RUNS runs" "$log"; then
    printf 'fuzz: %-16s %s runs in %s s, %s\n' "$target" "$RUNS" "$((SECONDS - begin))" \
      "$(sed -n 's/.*DONE *\(cov: [0-9]*\).*/\1/p' "$log")"
    return
  fi
  tail -n 60 "$log"
  printf 'fuzz: %s FAILED. Again, from %s:\n' "$target" "$PWD"
  find "artifacts/$target" -type f -newer "$corpus" -exec \
    printf '  TARSIER_BPF=skip cargo fuzz run %s %s %s\n' "${options[*]}" "$target" {} \;
  return 1
}

echo "fuzz: building"
# What it would be changed to belongs into a commit.
cargo fetch --locked --quiet --target "$(rustc -vV | sed -n 's/^host: //p')"
cargo fuzz build "${options[@]}"
rm -rf "$root/seeds"
# A target may have none.
(cd "$root" && mkdir -p "${targets[@]/#/seeds/}")
python3 seeds.py "$root/seeds"

failed=0 running=0
for target in "${targets[@]}"; do
  if [ "$running" -ge "$(nproc)" ]; then
    wait -n || failed=$((failed + 1))
    running=$((running - 1))
  fi
  run "$target" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
  wait -n || failed=$((failed + 1))
  running=$((running - 1))
done
# cargo-fuzz makes a folder for each, whatever is found.
[ ! -d artifacts ] || find artifacts -type d -empty -delete
[ "$failed" -eq 0 ] || { echo "fuzz: $failed of ${#targets[@]} targets failed"; exit 1; }
echo "fuzz: all ${#targets[@]} targets, $RUNS runs each, $SECONDS s"
