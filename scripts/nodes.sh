# shellcheck shell=bash
# Functions that cluster.sh, replication.sh and sentinel.sh share: several nodes in one terminal. Starts nothing by
# itself; run one of those three.
#
# The steps of a tour are written once. As a guide the script prints what to type and what should come back.
# As a demo (--demo) it types the steps, shows the real answers and compares them with what they should be.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
KVSTORE=$(realpath -m "${KVSTORE:-$ROOT/target/release/kvstore}")
READY_TENTHS_MAX=200
AWAIT_TENTHS_MAX=300

declare -A port=() pid=() link=() colour=()
work=
mode=guide
keep=no
failed=0
answer=

# --- output ----------------------------------------------------------------------------------------

usage() { sed -n '2,/^# shellcheck/{s/^# \{0,1\}//;/^shellcheck/d;p}' "$0"; }

say() { printf '%s\n' "$@"; }

title() { printf '\n=== %s\n' "$1"; }

# paint CODE TEXT: coloured, if this is a terminal.
paint() { if [ -t 1 ]; then printf '\e[%sm%s\e[0m' "$1" "$2"; else printf '%s' "$2"; fi; }

# prefixed NAME: copies its input to this terminal, each line after the name.
prefixed() {
    local name line
    name=$(paint "${colour[$1]:-0}" "$1")
    while IFS= read -r line; do printf '%s | %s\n' "$name" "$line"; done
}

fail() {
    printf '    FAILED: %s\n' "$@"
    failed=$((failed + 1))
}

# The parts of answers that have no names.
explain_leaders_role() {
    say "    1) the role, 2) the number of the last record, 3) for each follower: host, port, last record it confirmed."
}

explain_followers_role() {
    say "    1) the role, 2) and 3) the leader's host and port, 4) the state of the link, 5) the number of the last record."
}

explain_token() {
    say "    This token of the write is EPOCH.CHECKSUM:RECORD. The checksum is that of the epoch's first record. It tells" \
        "    this epoch from one with the same number on a node that was led otherwise."
}

# introduce NAME…: says where the nodes are.
introduce() {
    local name
    for name in "$@"; do
        say "$name: telnet 127.0.0.1 ${port[$name]}   process ${pid[$name]}, http://127.0.0.1:$((${port[$name]} + 1000))/"
    done
    say "Data, logs and configuration: $work"
    if [ "$mode" = demo ]; then say "All of this is gone when the demo ends, in a moment. Without --demo it stays until Ctrl-C."; fi
}

# --- nodes -----------------------------------------------------------------------------------------

is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_ports FIRST COUNT: prints the first of COUNT free ports in a row, at or after FIRST.
free_ports() {
    local first offset
    for ((first = $1; first < $1 + 1000; first += 10)); do
        for ((offset = 0; offset < $2; offset++)); do
            is_free $((first + offset)) || continue 2
        done
        echo "$first"
        return 0
    done
    echo "no $2 free ports in a row after $1" >&2
    return 1
}

# new_node NAME PORT COLOUR [LINE…]: starts a node in a new directory, configured by these lines.
new_node() {
    local name=$1
    port[$name]=$2 colour[$name]=$3
    mkdir "$work/$name"
    printf '%s\n' "port $2" "dir $work/$name" "metrics-port $(($2 + 1000))" "${@:4}" >"$work/$name/kv.conf"
    start "$name"
}

# spawn NAME COMMAND…: starts a child. Its log goes to a file and, as a guide, to this terminal too. It is
# not in the terminal's process group: Ctrl-C reaches only this script, which then ends its children.
spawn() {
    local name=$1
    if [ "$mode" = demo ]; then
        setsid "${@:2}" >>"$work/$name.log" 2>&1 </dev/null &
    else
        setsid "${@:2}" > >(trap '' INT; tee -a "$work/$name.log" | prefixed "$name") 2>&1 </dev/null &
    fi
    pid[$name]=$!
}

# start NAME: starts a node in its directory, with its configuration file as it is now.
start() {
    local name=$1 tenths
    if [ -n "${pid[$name]-}" ]; then say "$name runs already"; return 0; fi
    spawn "$name" "$KVSTORE" serve --config "$work/$name/kv.conf"
    for ((tenths = 0; tenths < READY_TENTHS_MAX; tenths++)); do
        if ! is_free "${port[$name]}"; then return 0; fi
        kill -0 "${pid[$name]}" 2>/dev/null || break
        sleep 0.1
    done
    say "$name does not start:"
    tail -n 10 "$work/$name.log"
    exit 1
}

# hit NAME SIGNAL: sends a signal to a node.
hit() {
    if [ -z "${pid[$1]-}" ]; then say "$1 does not run"; return 0; fi
    kill "-$2" "${pid[$1]}" 2>/dev/null || true
    # On a busy machine it takes a moment until the last thread has stopped.
    if [ "$2" = STOP ]; then
        while grep -sqv ') T ' "/proc/${pid[$1]}/task/"*/stat; do sleep 0.01; done
    fi
    if [ "$2" != KILL ]; then return 0; fi
    # Otherwise bash would report the death, which is intended.
    wait "${pid[$1]}" 2>/dev/null || true
    unset "pid[$1]"
    hang_up "$1"
}

cleanup() {
    local name
    trap '' INT TERM HUP
    for name in "${!pid[@]}"; do
        kill -CONT "${pid[$name]}" 2>/dev/null || true
        kill -TERM "${pid[$name]}" 2>/dev/null || true
    done
    for name in "${!pid[@]}"; do
        timeout 5 tail --pid="${pid[$name]}" -f /dev/null || kill -KILL "${pid[$name]}" 2>/dev/null || true
    done
    if [ -z "$work" ]; then return 0; fi
    if [ "$keep" = yes ]; then say "kept: $work"; else rm -rf "$work" && say "removed: $work"; fi
}

# --- conversations ---------------------------------------------------------------------------------

# dial NAME: one connection per node, kept open: WAIT and LASTSEQ are about the writes of one connection.
dial() {
    local fd
    if [ -n "${link[$1]-}" ]; then return 0; fi
    exec {fd}<>"/dev/tcp/127.0.0.1/${port[$1]}" || return 1
    link[$1]=$fd
}

hang_up() {
    local fd=${link[$1]-}
    if [ -n "$fd" ]; then exec {fd}>&-; fi
    unset "link[$1]"
}

# ask NAME LINE: types a line and prints what comes back. Call `dial` first, outside a subshell.
ask() {
    local line fd=${link[$1]} end="end-$RANDOM$RANDOM"
    printf '%s\r\nECHO %s\r\n' "$2" "$end" >&"$fd" || return 1
    while IFS= read -r -t 20 line <&"$fd"; do
        line=${line%$'\r'}
        if [ "$line" = "$end" ]; then return 0; fi
        printf '%s\n' "$line"
    done
    return 1
}

# matches TEXT PATTERN: succeeds if a line matches the extended regular expression.
matches() { grep -Eq -- "$2" <<<"$1"; }

# shown NAME LINE PATTERN: prints a step of the guide.
shown() {
    local wanted=${3//.\*/…}
    printf '    %s> %-38s %s\n' "$(paint "${colour[$1]}" "$1")" "$2" "→ ${wanted//[\\^$]/}"
}

# types NAME LINE PATTERN [LINES]: types a line; the answer must match. Prints the answer, or only its lines
# that match LINES, and sets `answer`.
types() {
    if [ "$mode" = guide ]; then shown "$@"; return 0; fi
    printf '    %s> %s\n' "$1" "$2"
    dial "$1" && answer=$(ask "$1" "$2") || answer="(no answer)"
    grep -E -- "${4:-}" <<<"$answer" | cut -c 1-150 | sed 's/^/       /' || true
    matches "$answer" "$3" || fail "this should match: $3"
}

# awaits NAME LINE PATTERN [LINES]: as `types`, repeated until the answer matches.
awaits() {
    local tenths
    if [ "$mode" = guide ]; then shown "$@"; return 0; fi
    for ((tenths = 0; tenths < AWAIT_TENTHS_MAX; tenths++)); do
        dial "$1" && matches "$(ask "$1" "$2")" "$3" && break
        hang_up "$1"
        sleep 0.1
    done
    types "$@"
}

# does VERB NAME: a command that a person types in the terminal of this script.
does() {
    if [ "$mode" = guide ]; then printf '    here> %s %s\n' "$@"; return 0; fi
    printf '    here> %s %s\n' "$@"
    obey "$@"
}

obey() {
    if [ -n "${2-}" ] && [ -z "${port[$2]-}" ]; then
        say "there is no $2; there are ${!port[*]}"
        return 0
    fi
    case ${1-}:${2-} in
        start:?*) start "$2" ;;
        kill:?*) hit "$2" KILL ;;
        pause:?*) hit "$2" STOP ;;
        go:?*) hit "$2" CONT ;;
        steps:*) tour ;;
        quit:*) exit 0 ;;
        :*) ;;
        *) say "you can type here: start A, kill A (as kill -9), pause A, go A, steps, quit" ;;
    esac
}

# --- the two forms ---------------------------------------------------------------------------------

# begin OPTION…: reads the options and creates the directory.
begin() {
    local option
    for option in "$@"; do
        case $option in
            --demo) mode=demo ;;
            --keep) keep=yes ;;
            -h | --help) usage; exit 0 ;;
            *) echo "unknown option $option (--help)" >&2; exit 2 ;;
        esac
    done
    if [ ! -x "$KVSTORE" ]; then
        echo "$KVSTORE does not exist: cargo build --release" >&2
        exit 1
    fi
    trap '' PIPE
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    work=$(mktemp -d "${TMPDIR:-/tmp}/kvstore-nodes.XXXXXX")
}

# finish: takes the tour. As a guide it then reads commands until Ctrl-C.
finish() {
    local words
    tour
    if [ "$mode" = demo ]; then
        title "$([ "$failed" = 0 ] && echo "all answers as expected ($SECONDS s)" || echo "$failed FAILED")"
        if [ "$failed" != 0 ]; then tail -n 15 "$work"/*.log; fi
        exit $((failed > 0))
    fi
    say '' "You can type here: start A, kill A, pause A, go A, steps, quit. Ctrl-C ends all. The logs:" ''
    while read -r -a words; do obey "${words[@]}"; done
    # Without a terminal: until a signal ends the script.
    while :; do sleep 3600 & wait $!; done
}
