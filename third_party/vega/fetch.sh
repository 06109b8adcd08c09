#!/usr/bin/env bash
# Fetches Vega's browser builds anew, as its authors publish them on npm, and the licences of what is
# bundled in them. Needs npm. Run it to change the versions below; it writes beside itself.
set -Eeuo pipefail

PACKAGES=(vega@6.4.0 vega-lite@6.4.3 vega-embed@7.3.0)
# What the builds contain of others (the rest of their dependencies is for the command line).
BUNDLED='^(vega.*|d3-.*|delaunator|robust-predicates|topojson-client|internmap|fast-json-patch|semver|json-stringify-pretty-compact|tslib)$'

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --ignore-scripts --no-audit --no-fund --silent --prefix "$work" "${PACKAGES[@]}"

for package in "${PACKAGES[@]}"; do
  name=${package%@*}
  install -m 0644 "node_modules/$name/build/$name.min.js" "$here/$name.min.js"
done
declare -A packages=() # by the licence's text, which many share
for folder in node_modules/*/; do
  name=$(basename "$folder")
  [[ $name =~ $BUNDLED ]] || continue
  text=$(find "$folder" -maxdepth 1 -iname 'licen[sc]e*' -type f | sort | head -1 | xargs -r cat | tr -d '\r')
  packages[$text]+="$(node -p "const p = require('./$folder/package.json'); p.name + ' ' + p.version + ' (' + p.license + ')'"), "
done
{
  echo "Licences of vega, vega-lite and vega-embed, and of what their builds contain."
  for text in "${!packages[@]}"; do
    printf '\n==== %s ====\n\n%s\n' "${packages[$text]%, }" "$text"
  done
} | fold -s -w 100 | sed 's/ *$//' > "$here/LICENSES.txt"
(cd "$here" && sha256sum ./*.min.js > SHA256SUMS)
