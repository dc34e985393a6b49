#!/usr/bin/env bash
# Packs this repository's build, installs the package into an empty project, and runs there the README's program and its
# command that removes the engine's other platforms, as they stand in README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
root="$PWD"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
[ -f dist/index.js ] || npm run build
package="$(npm pack --silent --pack-destination "$folder")"
mkdir "$folder/project"
cd "$folder/project"
# The first code block of README.md in a language, without its fences; of several, the one with a word in it.
block() {
  awk -v fence="$1" -v word="$2" '
    /^```/ { if (inside) { if (text ~ word) { printf "%s", text; exit } inside = 0 } else if ($0 == fence) { inside = 1; text = "" } else inside = -1; next }
    inside > 0 { text = text $0 "\n" }
    ' "$root/README.md"
}
npm init -y >/dev/null
ONNXRUNTIME_NODE_INSTALL=skip npm install --no-audit --no-fund --ignore-scripts "$folder/$package"
echo "-- installed: $(du -sm node_modules | cut -f1) MB, onnxruntime-node $(du -sm node_modules/onnxruntime-node | cut -f1) MB"
block '```' 'napi-v6' >prune.sh
[ -s prune.sh ] || { echo "ci-package.sh: README.md has no command that removes other platforms" >&2; exit 1; }
bash -e prune.sh
echo "-- without the engine's other platforms: $(du -sm node_modules | cut -f1) MB"
block '```js' 'loadModel' >program.mjs
[ -s program.mjs ] || { echo "ci-package.sh: README.md has no program" >&2; exit 1; }
node program.mjs | tee said.txt | tail -n 2
grep -q 'Take warm boots with you' said.txt
npx --no-install lowrank eval --model my-model --data node_modules/lowrank/assets/demo/heldout.jsonl
npx --no-install lowrank generate --adapter my-adapter --prompt 'Sunday: rain.' --max-new-tokens 20
