#!/usr/bin/env bash
# Starts a leader and two followers, and says what to type in other terminals to see replication by hand: a person
# decides who leads. `make cluster ARGS=--by-hand` runs it.
#
# Starts: target/release/kvstore (or $KVSTORE) three times on 127.0.0.1. A leads on port 8080; B and C
#         follow on 8081 and 8082 (or the next free ports; status pages 1000 above). Each has a
#         configuration file and its data in a new directory below $TMPDIR (or /tmp). Their logs are
#         shown in this terminal, each line after the node's name. Ctrl-C ends the three nodes only.
# Type next: what the script prints once the nodes run, with `telnet` or `nc` in other terminals.
#   scripts/replication.sh           start the nodes and print the steps
#   scripts/replication.sh --demo    type the steps itself and show the real answers; exit code 1 if one
#                                    differs from what it should be
#   scripts/replication.sh --keep    keep the directory; otherwise it is removed
# shellcheck disable=SC1091,SC2154  # nodes.sh is checked by itself and shares its variables
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/nodes.sh"

follow() { echo "REPLICAOF 127.0.0.1 ${port[$1]}"; }

tour() {
    replication
    lag
    read_your_writes
    handover
    divergence
}

replication() {
    title "1. Replication: a write to A is on B and C a moment later"
    types A 'SET name Ada' '^OK$'
    say "    WAIT returns how many followers have this connection's writes:"
    types A 'WAIT 2 5000' '^2$'
    types B 'GET name' '^Ada$'
    types C 'SET name Bea' "^READONLY .* The leader is 127.0.0.1:${port[A]}$"
    types A 'ROLE' '^1\) master$'
    explain_leaders_role
}

lag() {
    title "2. Lag: how many records a stopped follower lacks"
    does pause C
    types A 'SET counter 1' '^OK$'
    types A 'INCR counter' '^2$'
    types A 'INCR counter' '^3$'
    types A 'WAIT 2 200' '^1$'
    types A 'INFO replication' "port=${port[C]},.*lag_records=3," '^slave'
    does go C
    types A 'WAIT 2 5000' '^2$'
    types A 'INFO replication' "port=${port[C]},.*lag_records=0," '^slave'
    types C 'GET counter' '^3$'
}

read_your_writes() {
    local token
    title "3. Read your writes: a token of a write, and a follower that waits for it"
    say "    C follows B for now, and B is stopped. So C lacks new writes and cannot know it:"
    types C "$(follow B)" '^OK$'
    awaits C 'INFO replication' '^master_link_status:up' '^master_(port|link_status)'
    does pause B
    types A 'SET cart full' '^OK$'
    types A 'LASTSEQ' '.*:.*'
    token=${answer:-TOKEN}
    explain_token
    types C 'GET cart' '^\(nil\)$'
    types C "WAITSEQ $token 200" '^STALE .*'
    does go B
    types C "WAITSEQ $token 5000" '^OK$'
    types C 'GET cart' '^full$'
    types C "$(follow A)" '^OK$'
}

handover() {
    title "4. Handover: B becomes the leader, and no write is lost"
    awaits B 'INFO replication' '^master_link_status:up' '^master_(port|link_status)'
    types B 'PROMOTE' '^OK$'
    say "    Without this it would follow again after a restart, as its configuration file says:"
    types B 'CONFIG REWRITE' '^OK$'
    types B 'SET name Bea' '^OK$'
    awaits A 'ROLE' '^4\) connected$'
    explain_followers_role
    types A 'SET name Ada' "^READONLY .* The leader is 127.0.0.1:${port[B]}$"
    types C "$(follow B)" '^OK$'
    awaits C 'GET name' '^Bea$'
}

divergence() {
    local file
    title "5. A leader dies, another takes over, and the old one returns with writes that only it has"
    does kill B
    types A 'REPLICAOF NO ONE' '^OK$'
    types C "$(follow A)" '^OK$'
    types A 'SET city Aachen' '^OK$'
    does start B
    say "    B does not know that A leads: it still leads, and a client that does not know either writes to it."
    types B 'SET city Bonn' '^OK$'
    types B "$(follow A)" '^OK$'
    awaits B 'ROLE' '^4\) connected$'
    types B 'GET city' '^Aachen$'
    say "    The records that B gave up are counted and kept:"
    types B 'INFO replication' '^kvstore_diverged_records:1$' '^kvstore_diverged_'
    if [ "$mode" = guide ]; then
        say "    \$ $KVSTORE log FILE, with the file that INFO names"
        return 0
    fi
    file=$(sed -n 's/^kvstore_diverged_file://p' <<<"$answer")
    say "    \$ kvstore log $file"
    "$KVSTORE" log "$file" | sed 's/^/       /' || fail "kvstore log reads it"
    grep -qa Bonn "$file" || fail "it holds the write"
}

begin "$@"
first=$(free_ports 8080 3)
new_node A "$first" 32
new_node B $((first + 1)) 33 "replicaof 127.0.0.1 $first"
new_node C $((first + 2)) 36 "replicaof 127.0.0.1 $first"
introduce A B C
finish
