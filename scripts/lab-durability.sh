#!/usr/bin/env bash
# A lab: shows in a minute what kill -9, a torn log, a flipped bit and a full disk cost.
#
# Starts: target/release/kvstore (or $KVSTORE), one at a time, each on a free port of 127.0.0.1, which
#         is printed. Data is in a new directory below $TMPDIR (or /tmp). As root it also mounts a tmpfs
#         of 2 MB there. Ctrl-C ends and removes all of it and touches no other process.
# Type next:
#   scripts/lab-durability.sh           the whole lab
#   scripts/lab-durability.sh --step    wait for Enter before each part, so that you can look around
#                                       with `less`, `kvstore log DIR`, `telnet 127.0.0.1 PORT`
#   scripts/lab-durability.sh --keep    keep the directory
#
# Needs bash and coreutils. Exit code 1 if a result differs from what the lab says.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
KVSTORE=$(realpath -m "${KVSTORE:-$ROOT/target/release/kvstore}")
WRITERS=3
READY_SECONDS_MAX=20

failed=0
step=no keep=no
work=
server=          # process id of the running server; empty if none runs
writers=()
port=
mounted=

usage() { sed -n '2,/^set -/{s/^# \{0,1\}//;/^set -/d;p}' "${BASH_SOURCE[0]}"; }

# --- output --------------------------------------------------------------------------------------

title() {
    printf '\n=== %s\n' "$1"
    if [ "$step" = yes ]; then read -r -p '    (Enter goes on) ' </dev/tty; fi
}

say() { printf '    %s\n' "$@"; }

# shown: prints its input, folded and indented.
shown() { fold -s -w 92 | sed 's/^/    | /'; }

# expect WHAT COMMAND…: the command must succeed.
expect() {
    if "${@:2}"; then
        printf ' ok %s\n' "$1"
    else
        printf ' FAILED: %s\n' "$1"
        failed=$((failed + 1))
    fi
}

# --- servers -------------------------------------------------------------------------------------

cleanup() {
    local pid
    for pid in "${writers[@]}" $server; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    if [ -n "$mounted" ]; then umount "$mounted" || umount -l "$mounted" || true; fi
    if [ -n "$work" ]; then
        cd /
        if [ "$keep" = yes ]; then echo "kept: $work"; else rm -rf "$work"; fi
    fi
}

# start DIR [OPTION…]: starts a server, sets `server` and `port`; returns 1 if it does not serve.
start() {
    local dir=$1 give_up=$((SECONDS + READY_SECONDS_MAX))
    # Emptied here, not by the child: otherwise the port of the previous server could still be read.
    : >out
    : >err
    "$KVSTORE" serve --port 0 --bind 127.0.0.1 --dir "$dir" "${@:2}" \
        >>out 2>>err </dev/null &
    server=$!
    while [ "$SECONDS" -lt "$give_up" ]; do
        port=$(sed -n 's/.*ready on 127\.0\.0\.1:\([0-9][0-9]*\).*/\1/p' out)
        if [ -n "$port" ]; then
            say "\$ kvstore serve --dir $*      # on port $port"
            return 0
        fi
        kill -0 "$server" 2>/dev/null || break
        sleep 0.02
    done
    stop KILL
    return 1
}

# start_or_end …: as start, but ends the lab if the server does not serve.
start_or_end() {
    if ! start "$@"; then
        echo " FAILED: the server does not start:"
        tail -n 20 out err
        exit 1
    fi
}

# stop SIGNAL: ends the server that this script started.
stop() {
    [ -n "$server" ] || return 0
    kill "-$1" "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}

# ask LINE…: sends the lines as telnet would and prints the answers.
ask() {
    local link
    exec {link}<>"/dev/tcp/127.0.0.1/$port" || return 1
    printf '%s\n' "$@" QUIT >&"$link"
    # The last line is the answer to QUIT.
    sed '$d' <&"$link" | tr -d '\r'
    exec {link}>&-
}

# answers LINE REPLY: succeeds if the line gets this reply.
answers() { [ "$(ask "$1")" = "$2" ]; }

info() { ask 'INFO persistence' | sed -n "s/^$1://p"; }

newest_segment() { find "$1" -maxdepth 1 -name 'log-*.aof' | sort -V | tail -n 1; }

quarantined() { find "$1/quarantine" -name '*.aof' -type f | head -n 1; }

# fingerprint DIR: equal digests mean the same files with the same bytes.
fingerprint() { (cd "$1" && find . -name '*.aof' -type f -exec cksum {} + | sort | cksum); }

# --- 1: kill -9 ----------------------------------------------------------------------------------

# write_until_killed NAME: sends SETs, each after the OK to the previous one. When the server is gone, the
# file NAME.oks has the number of OKs.
write_until_killed() {
    local n=0 reply link
    # Otherwise bash would report the broken connection, which is expected.
    exec 2>/dev/null
    trap '' PIPE
    exec {link}<>"/dev/tcp/127.0.0.1/$port"
    while printf 'SET %s:%d value-%d\n' "$1" $((n + 1)) $((n + 1)) >&"$link" &&
        read -r reply <&"$link" && [ "${reply%$'\r'}" = OK ]; do
        n=$((n + 1))
    done
    echo "$n" >"$1.oks"
}

start_writers() {
    local id
    for ((id = 1; id <= WRITERS; id++)); do
        write_until_killed "writer$id" &
        writers+=($!)
    done
}

# tell_marks POLICY: how much of the log is written and how much is on the disk.
tell_marks() {
    local written durable marks
    # One INFO for both, so that they are of the same moment.
    marks=$(ask 'INFO persistence' | sed -n 's/^kvstore_\(written\|durable\)_seq:\(.*\)/\2/p')
    if [ -z "$marks" ]; then return; fi
    { read -r written; read -r durable; } <<<"$marks"
    say "just before the end: $written records given to the kernel, $durable of them on the disk"
    case $1 in
        always) say "(the other $((written - durable)) have no OK yet: it waits for the disk)" ;;
        *) say "(the other $((written - durable)) could be lost by a power cut now)" ;;
    esac
}

# kill_under_load DIR OPTION POLICY: kills a server under load; sets `acknowledged` to the number of OKs.
kill_under_load() {
    local pid id
    start_or_end "$@"
    start_writers
    sleep 1.5
    tell_marks "$3"
    stop KILL
    say "\$ kill -9"
    for pid in "${writers[@]}"; do wait "$pid" || true; done
    writers=()
    acknowledged=0
    for ((id = 1; id <= WRITERS; id++)); do
        acknowledged=$((acknowledged + $(cat "writer$id.oks")))
    done
    say "$WRITERS clients had received $acknowledged OKs"
}

# count_lost: how many acknowledged writes are missing or have another value.
count_lost() {
    local id n count wanted commands lost=0
    for ((id = 1; id <= WRITERS; id++)); do
        count=$(cat "writer$id.oks")
        [ "$count" -gt 0 ] || continue
        mapfile -t wanted < <(for ((n = 1; n <= count; n++)); do echo "value-$n"; done)
        mapfile -t commands < <(for ((n = 1; n <= count; n++)); do echo "GET writer$id:$n"; done)
        lost=$((lost + $(diff <(printf '%s\n' "${wanted[@]}") <(ask "${commands[@]}") |
            grep -c '^<' || true)))
    done
    echo "$lost"
}

part_kill() {
    local policy lost
    title "1. kill -9 while $WRITERS clients write"
    say "A killed process writes nothing more, but the kernel keeps what the process has given to it. So" \
        "with every appendfsync the server says OK only after the kernel has the write."
    for policy in always everysec no; do
        echo
        kill_under_load "kill-$policy" --appendfsync "$policy"
        start_or_end "kill-$policy" --appendfsync "$policy"
        lost=$(count_lost)
        expect "appendfsync $policy: of $acknowledged acknowledged writes, $lost are lost" \
            [ "$lost" = 0 ]
        stop TERM
    done
    echo
    say "For comparison, a pure cache, which writes no log:"
    kill_under_load "kill-cache" --appendonly no
    start_or_end "kill-cache" --appendonly no
    expect "appendonly no: of $acknowledged acknowledged writes, all are lost" answers DBSIZE 0
    stop TERM
}

# --- 2: a torn tail ------------------------------------------------------------------------------

part_torn() {
    local dir=torn segment
    title "2. A torn tail: the last record is on the disk only in part"
    say "A power cut between two syncs can leave this. The lab imitates it: kill -9, then cut five bytes" \
        "off the newest segment. With appendfsync no that record was never synced. A log that ends before" \
        "the record that the file 'synced' names would be refused instead."
    start_or_end "$dir" --appendfsync no
    ask 'SET first kept' 'SET second kept' 'SET third torn' >/dev/null
    stop KILL
    segment=$(newest_segment "$dir")
    say "\$ truncate --size=-5 $segment; tail -n 8 $segment"
    truncate --size=-5 "$segment"
    tail -n 8 "$segment" | tr -d '\r' | shown
    echo
    say "\$ kvstore check $dir"
    expect "check finds no damage: a server would start" check_passes "$dir"
    start_or_end "$dir"
    { grep quarantine err || true; } | shown
    expect "the records before it are there" answers 'MGET first second' $'1) kept\n2) kept'
    expect "the torn one is not" answers 'EXISTS third' 0
    expect "the torn record is kept: it is in quarantine/" \
        grep -qa third "$(quarantined "$dir")"
    expect "INFO shows it: kvstore_quarantined_bytes is $(info kvstore_quarantined_bytes)" \
        [ "$(info kvstore_quarantined_bytes)" -gt 0 ]
    expect "new writes go on after the last good record" answers 'SET fourth new' OK
    stop TERM
}

check_passes() {
    local code=0
    "$KVSTORE" check "$@" >checked 2>&1 || code=$?
    shown <checked
    return "$code"
}

check_fails() { ! check_passes "$@"; }

# --- 3: a flipped bit ----------------------------------------------------------------------------

# flip_bit FILE TEXT: flips the lowest bit of the first byte of TEXT.
flip_bit() {
    local offset byte
    offset=$(grep -abo "$2" "$1" | head -n 1 | cut -d: -f1)
    byte=$(od -An -tu1 -j "$offset" -N 1 "$1")
    # shellcheck disable=SC2059  # the format is the byte
    printf "\\x$(printf %x $((byte ^ 1)))" |
        dd of="$1" bs=1 seek="$offset" conv=notrunc status=none
}

part_flipped() {
    local dir=flipped segment before
    title "3. A flipped bit in the middle: damage, not a crash"
    say "Disks rot. Good records follow the bad one, so no crash explains it, and it is unknown what" \
        "else is wrong. The server does not guess: it does not start, and it changes nothing."
    start_or_end "$dir"
    ask 'SET before kept' 'SET middle damaged' 'SET after intact' >/dev/null
    stop TERM
    segment=$(newest_segment "$dir")
    say "\$ flip one bit of the value of 'middle' in $segment"
    flip_bit "$segment" damaged
    before=$(fingerprint "$dir")
    expect "the server refuses to start" refuses_to_start "$dir"
    shown <err
    expect "it has not changed any byte" [ "$(fingerprint "$dir")" = "$before" ]
    echo
    say "\$ kvstore check $dir"
    expect "check finds it as well" check_fails "$dir"
    echo
    say "A backup is better. Without one, keep the records before the damage:" \
        "\$ kvstore check $dir --repair"
    expect "the repair succeeds" check_passes "$dir" --repair
    start_or_end "$dir"
    expect "the record before the damage is there" answers 'GET before' kept
    expect "the records after it are not: they may have depended on it" answers 'EXISTS middle after' 0
    expect "they are in quarantine/ and can be read" grep -qa intact "$(quarantined "$dir")"
    stop TERM
}

refuses_to_start() { ! start "$@"; }

# --- 4: a full disk ------------------------------------------------------------------------------

mount_small() {
    [ "$(id -u)" = 0 ] && mkdir "$1" && mount -t tmpfs -o size=2m tmpfs "$1" 2>/dev/null &&
        mounted=$work/$1
}

# set_until_refused: sends SETs of 4 KB until one is refused; sets `acknowledged` and `refusal`.
set_until_refused() {
    local value
    value=$(printf '%4096s' '' | tr ' ' x)
    acknowledged=0
    while refusal=$(ask "SET big:$((acknowledged + 1)) $value") && [ "$refusal" = OK ] &&
        [ "$acknowledged" -lt 1000 ]; do
        acknowledged=$((acknowledged + 1))
    done
}

resumes() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        if answers 'SET afterwards fine' OK; then return 0; fi
        sleep 0.1
    done
    return 1
}

part_full() {
    local disk=small dir=small/data
    title "4. A full disk"
    if ! mount_small "$disk"; then
        say "skipped: it needs to mount a small disk, which only root may do"
        return
    fi
    say "A write that cannot be logged is refused; reads go on; when there is space again, service resumes" \
        "by itself. The disk is a tmpfs of 2 MB of which 100 KB are free."
    start_or_end "$dir"
    ask 'SET kept safe' >/dev/null
    dd if=/dev/zero of="$disk/filler" bs=1k status=none \
        count=$(($(df --output=avail -k "$disk" | tail -n 1) - 100))
    set_until_refused
    say "after $acknowledged OKs, the answer to a SET is:"
    printf '%s\n' "$refusal" | shown
    expect "writes are refused with MISCONF" grep -q MISCONF <<<"$refusal"
    expect "reads go on" answers 'GET kept' safe
    expect "INFO shows it: aof_last_write_status is $(info aof_last_write_status)" \
        [ "$(info aof_last_write_status)" = err ]
    say "\$ rm $disk/filler"
    rm "$disk/filler"
    expect "service resumes by itself, without a restart" resumes
    stop KILL
    say "\$ kill -9"
    start_or_end "$dir"
    expect "after a restart, all $acknowledged acknowledged writes are there" all_big_there
    expect "and so are the writes before and after" \
        answers 'MGET kept afterwards' $'1) safe\n2) fine'
    stop TERM
    umount "$mounted"
    mounted=
}

all_big_there() {
    local n commands lengths
    mapfile -t commands < <(for ((n = 1; n <= acknowledged; n++)); do echo "STRLEN big:$n"; done)
    lengths=$(ask "${commands[@]}" | sort | uniq -c | tr -s ' ')
    [ "$lengths" = " $acknowledged 4096" ]
}

# --- all -----------------------------------------------------------------------------------------

main() {
    local option
    for option in "$@"; do
        case $option in
            --step) step=yes ;;
            --keep) keep=yes ;;
            -h | --help) usage; exit 0 ;;
            *) echo "lab-durability: unknown option $option (--help)" >&2; exit 2 ;;
        esac
    done
    if [ ! -x "$KVSTORE" ]; then
        echo "lab-durability: $KVSTORE does not exist: cargo build --release" >&2
        exit 1
    fi
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    work=$(mktemp -d "${TMPDIR:-/tmp}/kvstore-lab.XXXXXX")
    cd "$work"
    say "Servers on free ports of 127.0.0.1, one at a time, data in $work; Ctrl-C cleans up." \
        "Look around from another terminal (--step waits for you): telnet 127.0.0.1 PORT, or:" \
        "cd $work; less torn/log-1.aof; $KVSTORE log torn"
    part_kill
    part_torn
    part_flipped
    part_full
    echo
    if [ "$failed" != 0 ]; then
        echo "$failed expectations FAILED"
        exit 1
    fi
    echo "everything was as it should be ($SECONDS s)"
}

main "$@"
