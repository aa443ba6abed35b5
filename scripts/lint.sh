#!/usr/bin/env bash
# Everything that judges the code without running it.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step formatting
cargo fmt --all --check

step "every member takes the workspace's lints"
# The eBPF crate has a table of its own: unsafe code is its trade. The fuzz targets are a workspace of their own.
readarray -t members < <(git ls-files '*Cargo.toml' ':!bpf-programs/Cargo.toml' ':!integration/fuzz/Cargo.toml')
without=$(awk '
  FNR == 1 { table = "" }
  /^\[/ { table = $0 }
  table == "[lints]" && /^workspace *= *true/ { has[FILENAME] = 1 }
  END { for (i = 1; i < ARGC; i++) if (!has[ARGV[i]]) print "  " ARGV[i] }' "${members[@]}")
[ -z "$without" ] || { printf 'these lack "[lints] workspace = true":\n%s\n' "$without"; exit 1; }

step scripts
git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -x -P SCRIPTDIR

step "clippy, userland and (through build.rs, in a cargo call of its own) eBPF"
export TARSIER_BPF=lint
cargo clippy --all-targets -- -D warnings
cargo clippy --workspace --exclude tarsier-ebpf --all-targets --all-features -- -D warnings

step "licences, bans, sources"
cargo deny --all-features check --hide-inclusion-graph licenses bans sources

step advisories
if timeout 60 cargo deny --log-level off fetch db >/dev/null 2>&1; then
  cargo deny --all-features check --disable-fetch --hide-inclusion-graph advisories
else
  echo "the advisory database cannot be reached from here: NOT checked"
fi
