#!/usr/bin/env bash
# verifier-table.sh   the table of docs/performance.md: instructions that the verifier processed, by program and kernel.
# `make test TESTS=kernels` and `TESTS=verifier` leave the numbers in target/verifier, a file for each kernel.
set -euo pipefail
cd "$(dirname "$0")/.."
cd "${CARGO_TARGET_DIR:-target}/verifier"
readarray -t kernels < <(printf '%s\n' * | sort -V)
awk '
  FNR == 1 { columns++; head = head " | " FILENAME; rule = rule " --: |" }
  { programs[$1]; of[$1, columns] = $2 }
  END {
    print "| program" head " |"
    print "| --- |" rule
    fflush() # sort writes past awk
    for (program in programs) {
      line = "| `" program "` |"
      for (column = 1; column <= columns; column++) line = line " " of[program, column] " |"
      print line | "sort"
    }
  }' "${kernels[@]}"
