#!/usr/bin/env bash
# Clones this repository into an empty folder and runs there what the README says first: the lines of its first code
# block, as a stranger would, with no cache, no model and no environment of ours.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
git clone --quiet . "$folder/lowrank"
cd "$folder/lowrank"
mapfile -t commands < <(awk '/^```/ { if (inside) exit; inside = 1; next } inside' README.md | sed 's/ *#.*//')
if [ "${#commands[@]}" -ne 2 ]; then
  echo "ci-clean-clone.sh: README.md should begin with two commands, and has ${#commands[@]}" >&2
  exit 1
fi
for command in "${commands[@]}"; do
  echo "-- $command"
  env -u CI -u LOWRANK_CACHE -u LOWRANK_PARITY HOME="$folder/home" npm_config_cache="$(npm config get cache)" \
    bash -c "$command" </dev/null
done
