#!/bin/sh
# Writes everything below the folders of versions anew; see README.md.
set -eu
tools=$(realpath "$1")
cd "$(dirname "$0")"
versions="3.9.4 3.11.0 3.13.3"
for version in $versions; do
    [ -x "$tools/$version/sops" ] ||
        GOBIN="$tools/$version" GOFLAGS=-mod=mod go install "github.com/getsops/sops/v3/cmd/sops@v$version"
done
new="$tools/3.13.3/sops"
SOPS_AGE_KEY_FILE=$PWD/keys.txt
SOPS_DISABLE_VERSION_CHECK=1
export SOPS_AGE_KEY_FILE SOPS_DISABLE_VERSION_CHECK
for version in $versions; do
    rm -rf "$version"
    mkdir -p "$version/encrypted" "$version/decrypted"
    for plain in plain/*; do
        name=${plain#plain/}
        # 3.9.4 knows no times, and cannot flatten groups so that any version reads them.
        case "$version/$name" in 3.9.4/times.yaml | 3.9.4/groups.env | 3.9.4/groups.ini) continue ;; esac
        "$tools/$version/sops" --config rules.yaml encrypt "$plain" >"$version/encrypted/$name"
        "$new" decrypt "$version/encrypted/$name" >"$version/decrypted/$name"
    done
    cp -r "$version/encrypted" "$version/set"
    while read -r name path value; do
        [ -e "$version/set/$name" ] || continue
        "$new" set "$version/set/$name" "$path" "$value"
    done <set.txt
    cp -r "$version/encrypted" "$version/updated"
    "$new" --config more.yaml updatekeys --yes "$version"/updated/*
done
