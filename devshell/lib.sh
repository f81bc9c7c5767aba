# Shared by the scripts of this folder. Sourced, not run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/go/bin:/usr/sbin:/sbin"

say() { printf '%s\n' "devshell: $*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif have sudo; then sudo "$@"
    else die "root is needed for: $* (no sudo here; run it as root, then start again)"
    fi
}

# Where a plain `cargo build` puts its results.
civm_target() { printf '%s/%s' "${CARGO_TARGET_DIR:-target}" "$(rustc -vV | sed -n 's/^host: //p')"; }
