#!/bin/sh
# Writes the encrypted files of this folder anew with the sops on the PATH; see README.md.
set -eu
cd "$(dirname "$0")"
one=$(sed -n 's/^# public key: //p' keys.txt | sed -n 1p)
two=$(sed -n 's/^# public key: //p' keys.txt | sed -n 2p)
run() {
    out=$1
    shift
    sops --config /dev/null "$@" >"$out"
}
run types.enc.yaml encrypt --age "$one,$two" types.yaml
run types.enc.json encrypt --age "$one" types.json
run regex.enc.yaml encrypt --age "$one" --encrypted-regex '^(map|list)$' types.yaml
run only.enc.json --mac-only-encrypted encrypt --age "$one" --unencrypted-regex '^(str|map)$' types.json
run comments.enc.yaml -e --age "$one" --encrypted-comment-regex 'encrypt this' comments.yaml
printf 'creation_rules:\n  - shamir_threshold: 2\n    key_groups:\n      - age: [%s]\n      - age: [%s]\n' \
    "$one" "$two" >groups.config
sops --config groups.config encrypt types.json >groups.enc.json
rm groups.config
