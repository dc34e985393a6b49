#!/usr/bin/env bash
# The whole parity suite with PyTorch + PEFT: makes .venv, fetches SmolLM2-135M, and compares what lowrank computes and
# writes with what Python makes of the same files, live. Needs `npm run build` first.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "$here/../.."

bash scripts/parity/setup.sh
.venv/bin/python scripts/fetch_models.py
LOWRANK_PARITY=live npx vitest run test/golden "$@"
