#!/usr/bin/env bash
# Makes assets/font/DejaVuSans.ttf: the letters that pictures use, without hints and layout tables. Needs npm and
# pyftsubset (pip install fonttools==4.60.0).
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm pack --silent --pack-destination "$work" dejavu-fonts-ttf@2.37.3
tar -xzf "$work"/dejavu-fonts-ttf-2.37.3.tgz -C "$work"
pyftsubset "$work/package/ttf/DejaVuSans.ttf" --no-hinting --layout-features='' --drop-tables+=GPOS,GSUB,GDEF \
  --unicodes="U+0020-007E,U+00A0-017F,U+0192,U+02C6,U+02C7,U+02D8-02DD,U+0300-030C,U+0370-03FF,U+0400-045F,U+1D38,\
U+1D40,U+2010-2027,U+2030-203A,U+2070-209C,U+20AC,U+2113,U+2116,U+2122,U+2190-2199,U+21D0-21D4,U+2200-222B,U+2248,\
U+2260-2265,U+2295-2297,U+22A5,U+22C5,U+25A0-25CF,U+2713,U+2717" --output-file=assets/font/DejaVuSans.ttf
cp "$work/package/LICENSE" assets/font/LICENSE
