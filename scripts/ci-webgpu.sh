#!/usr/bin/env bash
# Brings a software Vulkan driver (SwiftShader, from Debian's chromium package) and runs the op suite and a whole
# training step on the WebGPU provider. Slow: for correctness only.
set -euo pipefail
cd "$(dirname "$0")/.."
icd=/usr/lib/chromium/vk_swiftshader_icd.json
if [ ! -f "$icd" ] || ! ldconfig -p | grep -q libvulkan.so.1; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends chromium libvulkan1 >/dev/null
fi
VK_DRIVER_FILES="$icd" LOWRANK_TEST_DEVICE=webgpu npx vitest run src/graph/ops test/platform/webgpu "$@"
