#!/usr/bin/env bash
# Makes .venv in the repository root with the pinned PyTorch, transformers and PEFT of requirements.txt.
# Does nothing when those very versions are there already; a run that was killed half-way is simply run again.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
venv="$root/.venv"
requirements="$here/requirements.txt"

# Exit status 0 when each pinned version is installed (a local part as in 2.13.0+cpu does not count).
versions_are_right() {
  [ -x "$venv/bin/python" ] && "$venv/bin/python" - "$requirements" <<'PY'
import sys
from importlib.metadata import PackageNotFoundError, version

for line in open(sys.argv[1]):
    name, pinned, wanted = line.split("#")[0].strip().partition("==")
    if not pinned:
        continue
    try:
        if version(name).split("+")[0] != wanted:
            sys.exit(1)
    except PackageNotFoundError:
        sys.exit(1)
PY
}

if versions_are_right; then
  exit 0
fi

python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "setup.sh: the parity suite needs Python 3.11 or newer as $python (name another one in PYTHON)." >&2
  exit 1
fi
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 && ! "$python" -m venv "$venv"; then
  echo "setup.sh: could not make a virtual environment in $venv (on Debian: apt-get install python3-venv)." >&2
  exit 1
fi
"$venv/bin/python" -m pip install --quiet --requirement "$requirements"
if ! versions_are_right; then
  echo "setup.sh: pip finished but $venv lacks the versions of $requirements." >&2
  exit 1
fi
