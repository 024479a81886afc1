#!/usr/bin/env bash
# Starts kvstore under three Redis Sentinels, which notice that the leader is dead and promote a follower.
#
# Starts: target/release/kvstore (or $KVSTORE) three times on 127.0.0.1: A leads on port 8080; B and C
#         follow on 8081 and 8082 (or the next free ports; status pages 1000 above). And redis-sentinel
#         three times: S1 on 26380, S2 and S3 on the next two ports. Data, logs and configuration are in a
#         new directory below $TMPDIR (or /tmp). The logs are shown in this terminal, each line after the
#         name. Ctrl-C ends these six processes only.
# Type next: what the script prints once they run, with `telnet` and `redis-cli` in other terminals.
#   scripts/sentinel.sh           start them and print the steps
#   scripts/sentinel.sh --demo    kill the leader itself and show which Sentinel does what and when; exit
#                                 code 1 if an answer differs from what it should be
#   scripts/sentinel.sh --keep    keep the directory; otherwise it is removed
#
# Needs redis-sentinel and redis-cli: apt-get install redis-sentinel
# shellcheck disable=SC1091,SC2034,SC2154  # nodes.sh is checked by itself and shares its variables
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/nodes.sh"

DOWN_AFTER_MS=2000
FAILOVER_SECONDS_MAX=30

tour() {
    before
    failover
    coming_back
}

explain_events() {
    say "    +sdown (subjectively down): one Sentinel has had no answer for $DOWN_AFTER_MS ms. +odown (objectively down): as" \
        "    many as the quorum, two, think so. Then they vote for one among them (+vote-for-leader) that carries out the" \
        "    failover: it selects a follower, promotes it, and tells all where the master is now (+switch-master)."
}

before() {
    title "1. Three Sentinels, two of which must agree, know the leader and its followers"
    asks_sentinel 'SENTINEL GET-MASTER-ADDR-BY-NAME kv' "^${port[A]}$"
    asks_sentinel 'SENTINEL CKQUORUM kv' '^OK 3 usable Sentinels.*'
    types A 'SET name Ada' '^OK$'
    types A 'WAIT 2 5000' '^2$'
}

failover() {
    title "2. kill -9 of the leader: after $DOWN_AFTER_MS ms without an answer it counts as dead"
    does kill A
    if [ "$mode" = guide ]; then
        say "    Look at the logs for these events:"
        explain_events
        say "    Meanwhile, again and again:"
        asks_sentinel 'SENTINEL GET-MASTER-ADDR-BY-NAME kv' "${port[B]} or ${port[C]}"
        say "    Say it is B: it takes writes, and C follows it."
        types B 'GET name' '^Ada$'
        types B 'SET name Bea' '^OK$'
        types C 'ROLE' '^4\) connected$'
        return 0
    fi
    local killed_ms=$(($(date +%s%N) / 1000000)) new other
    new=$(first_write) || { fail "no node takes writes"; return 0; }
    say "    first write after $(($(date +%s%N) / 1000000 - killed_ms)) ms, to $new; what S1 to S3 said:"
    timeline "$killed_ms"
    explain_events
    other=$([ "$new" = B ] && echo C || echo B)
    types "$new" 'GET name' '^Ada$'
    awaits "$other" 'ROLE' "^3\) ${port[$new]}$"
    explain_followers_role
    awaits "$other" 'ROLE' '^4\) connected$' '^4'
    types "$new" 'SET name Bea' '^OK$'
    leader=$new
}

coming_back() {
    title "3. The old leader comes back and still leads; about ten seconds later it follows"
    does start A
    say "    A client that does not ask a Sentinel may write to it now. That write will be given up:"
    types A 'SET lost soon' '^OK$'
    awaits A 'ROLE' '^1\) slave$'
    awaits A 'ROLE' '^4\) connected$' '^[34]'
    types A 'GET name' '^Bea$'
    types A 'EXISTS lost' '^0$'
    say "    but it was saved and counted, and the new role is in the configuration file:"
    types A 'INFO replication' '^kvstore_diverged_records:1$' '^kvstore_diverged_'
    if [ "$mode" = guide ]; then return 0; fi
    tail -n 1 "$work/A/kv.conf" | sed 's/^/       /'
    grep -qx "replicaof 127.0.0.1 ${port[$leader]}" "$work/A/kv.conf" || fail "CONFIG REWRITE should have written this"
}

# --- Sentinels -------------------------------------------------------------------------------------

new_sentinel() {
    port[$1]=$2 colour[$1]=35
    mkdir "$work/$1"
    printf '%s\n' "port $2" "bind 127.0.0.1" "dir $work/$1" "sentinel monitor kv 127.0.0.1 ${port[A]} 2" \
        "sentinel down-after-milliseconds kv $DOWN_AFTER_MS" "sentinel failover-timeout kv 10000" \
        >"$work/$1/sentinel.conf"
    spawn "$1" redis-sentinel "$work/$1/sentinel.conf"
}

# asks_sentinel LINE PATTERN
asks_sentinel() {
    if [ "$mode" = guide ]; then
        printf '    $ redis-cli -p %s %-43s → %s\n' "${port[S1]}" "$1" "${2//[\\^$]/}"
        return 0
    fi
    printf '    $ redis-cli -p %s %s\n' "${port[S1]}" "$1"
    # shellcheck disable=SC2086  # words
    answer=$(redis-cli -p "${port[S1]}" $1 2>&1) || true
    printf '%s\n' "$answer" | sed 's/^/       /'
    matches "$answer" "$2" || fail "this should match: $2"
}

# Waits until every Sentinel knows the others and both followers.
wait_known() {
    local name tenths known
    for ((tenths = 0; tenths < AWAIT_TENTHS_MAX; tenths++)); do
        known=0
        for name in S1 S2 S3; do
            redis-cli -p "${port[$name]}" INFO sentinel 2>/dev/null |
                grep -q 'status=ok,address=.*,slaves=2,sentinels=3' && known=$((known + 1))
        done
        if [ "$known" = 3 ]; then return 0; fi
        sleep 0.1
    done
    say "the Sentinels do not find each other:"
    tail -n 5 "$work"/S?.log
    exit 1
}

# Asks S1 where to write until a write succeeds; prints the node's name.
first_write() {
    local give_up=$((SECONDS + FAILOVER_SECONDS_MAX)) at name
    while [ "$SECONDS" -lt "$give_up" ]; do
        at=$(redis-cli -p "${port[S1]}" SENTINEL GET-MASTER-ADDR-BY-NAME kv | tail -n 1)
        if [ "$at" != "${port[A]}" ] && [ "$(redis-cli -p "$at" SET first write 2>&1)" = OK ]; then
            for name in B C; do if [ "${port[$name]}" = "$at" ]; then echo "$name"; fi; done
            return 0
        fi
        sleep 0.02
    done
    return 1
}

# timeline MS: the Sentinels' events since that time, each with the milliseconds since then.
timeline() {
    local name day time what ms
    for name in S1 S2 S3; do
        grep -hE '[+](sdown|odown|vote-for-leader|elected-leader|selected-slave|promoted-slave|slave-reconf-done|switch-master)' \
            "$work/$name.log" | cut -d ' ' -f 2- | while read -r day month year time _ what; do
            ms=$(($(date -d "$day $month $year $time" +%s%N) / 1000000 - $1))
            if [ "$ms" -ge 0 ]; then printf '%7d ms  %s  %s\n' "$ms" "$name" "$what"; fi
        done
    done | sort -n | cut -c 1-120
}

begin "$@"
for program in redis-sentinel redis-cli; do
    if ! command -v "$program" >/dev/null; then
        say "skipped: $program is not installed (apt-get install redis-sentinel)"
        [ "$mode" = demo ]
        exit
    fi
done
leader=B
first=$(free_ports 8080 3)
new_node A "$first" 32
new_node B $((first + 1)) 33 "replicaof 127.0.0.1 $first"
new_node C $((first + 2)) 36 "replicaof 127.0.0.1 $first"
first=$(free_ports 26380 3)
for number in 1 2 3; do new_sentinel "S$number" $((first + number - 1)); done
introduce A B C
say "S1, S2, S3: redis-cli -p ${port[S1]}, ${port[S2]}, ${port[S3]}" \
    "Waiting until the Sentinels have found each other …"
wait_known
finish
