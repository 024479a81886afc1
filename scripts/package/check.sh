#!/usr/bin/env bash
# Checks what is installed beside the program: the manual page, completions in a real bash (and in zsh and fish, where
# they are), the systemd unit, `make install`, TLS in front (tls.sh). Uses target/release/kvstore, or KVSTORE=...; starts a
# server for TLS only, on free ports of 127.0.0.1. What has no tool here is skipped with words. Type next: make install.
set -euo pipefail
cd "$(dirname "$0")/../.."
export KVSTORE=${KVSTORE:-target/release/kvstore}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAILED: $1"
    exit 1
}

# $1: a program; $2: the package that has it. Says so if it is missing.
has() {
    if command -v "$1" >/dev/null; then return 0; fi
    echo "skipped $1: not installed (apt-get install $2)"
    return 1
}

# $1: what the shell should offer, as a pattern of grep; the rest: a command that prints what it offers.
offers() {
    local pattern=$1
    shift
    "$@" >"$work/offered" 2>"$work/said" || { cat "$work/said"; fail "$*"; }
    grep -qx -- "$pattern" "$work/offered" || { cat "$work/offered"; fail "no $pattern from: $*"; }
}

# Prints what bash completes after these words.
in_bash() {
    bash --norc -c '
        source "$1"
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _kvstore
        printf "%s\n" "${COMPREPLY[@]}"' bash "$work/kvstore.bash" "$@"
}

# Prints what fish completes after this line.
in_fish() {
    fish --no-config -c "source $work/kvstore.fish; complete -C '$1'" | cut -f 1
}

echo "--- completions"
for shell in bash zsh fish; do "$KVSTORE" completions "$shell" >"$work/kvstore.$shell"; done
offers check in_bash kvstore ch
offers --repair in_bash kvstore check --
offers --appendfsync in_bash kvstore --appendf
offers noeviction in_bash kvstore serve --maxmemory-policy no
offers "$work/kvstore.zsh" in_bash kvstore import "$work/kvstore.z"
offers fish in_bash kvstore completions f
if has shellcheck shellcheck; then shellcheck --shell=bash "$work/kvstore.bash"; fi
if has zsh zsh; then
    zsh -n "$work/kvstore.zsh"
    zsh -f -c "autoload -U compinit; compinit -u -d $work/zcompdump; source $work/kvstore.zsh; whence -w _kvstore" |
        grep -q function || fail "zsh does not take its script"
fi
if has fish fish; then
    offers check in_fish "kvstore ch"
    offers --repair in_fish "kvstore check --rep"
    offers noeviction in_fish "kvstore serve --maxmemory-policy noev"
fi

echo "--- make install"
make --no-print-directory install KVSTORE="$KVSTORE" PREFIX=/usr DESTDIR="$work/root" >"$work/installed"
for file in bin/kvstore share/man/man1/kvstore.1 share/bash-completion/completions/kvstore \
    share/zsh/site-functions/_kvstore share/fish/vendor_completions.d/kvstore.fish lib/systemd/system/kvstore.service; do
    [ -s "$work/root/usr/$file" ] || fail "not installed: $file"
done
grep -q "^ExecStart=/usr/bin/kvstore " "$work/root/usr/lib/systemd/system/kvstore.service" ||
    fail "the unit names another program"

echo "--- manual page"
if has man man-db; then
    LC_ALL=C MANROFFSEQ='' man --warnings -l "$work/root/usr/share/man/man1/kvstore.1" >"$work/page" 2>"$work/said"
    [ ! -s "$work/said" ] || { cat "$work/said"; fail "man has warnings"; }
    for word in import --appendfsync MULTI; do
        grep -q -- "$word" "$work/page" || fail "no $word on the page"
    done
fi

echo "--- systemd unit"
if has systemd-analyze systemd; then
    # The path of a program that is there; it checks that too.
    sed "s|^ExecStart=[^ ]*|ExecStart=$(realpath "$KVSTORE")|" scripts/package/kvstore.service >"$work/kvstore.service"
    systemd-analyze --man=no verify "$work/kvstore.service" 2>&1 | grep -F kvstore.service | tee "$work/said" || true
    [ ! -s "$work/said" ] || fail "the unit is not right"
fi

echo "--- TLS"
scripts/package/tls.sh
echo "--- packages: ok"
