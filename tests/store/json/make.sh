#!/bin/sh
# Writes the outputs of this folder anew with the sops and age-keygen on the PATH; see README.md.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
age-keygen -o "$work/key" 2>/dev/null
recipient=$(age-keygen -y "$work/key")
export SOPS_AGE_KEY_FILE="$work/key"
for indent in -1 0 2; do
    printf 'stores:\n  json:\n    indent: %s\n' "$indent" >"$work/config"
    for input in *.in.json; do
        sops --config /dev/null encrypt --age "$recipient" "$input" >"$work/encrypted.json"
        sops --config "$work/config" decrypt "$work/encrypted.json" >"${input%.in.json}.$indent.json"
    done
done
