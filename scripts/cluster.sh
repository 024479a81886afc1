#!/usr/bin/env bash
# Starts three nodes that elect their leader, and says what to type in other terminals to see it.
#
# Starts: target/release/kvstore (or $KVSTORE) three times on 127.0.0.1: A, B and C on ports 8080 to 8082 (or the
#         next free ports; status pages 1000 above). Each has a configuration file with `cluster-nodes` and its
#         data in a new directory below $TMPDIR (or /tmp). Their logs are shown in this terminal, each line after
#         the node's name. Ctrl-C ends the three nodes only.
# Type next: what the script prints once a leader is elected, with `telnet` or `nc` in other terminals.
#   scripts/cluster.sh             start the nodes and print the steps
#   scripts/cluster.sh --demo      type the steps itself and show the real answers; then let the leader fail in
#                                  three ways under load, and count what is lost. Exit code 1 if an answer
#                                  differs from what it should be, or a write is lost that must not be
#   scripts/cluster.sh --keep      keep the directory; otherwise it is removed
#   scripts/cluster.sh --by-hand   a leader and two followers without elections (replication.sh; --demo, too)
# shellcheck disable=SC1091,SC2154  # nodes.sh is checked by itself and shares its variables
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
for option in "$@"; do
    if [ "$option" = --by-hand ]; then
        others=()
        for other in "$@"; do if [ "$other" != --by-hand ]; then others+=("$other"); fi; done
        exec "$here/replication.sh" "${others[@]}"
    fi
done

. "$here/nodes.sh"

# The leader, and the other two; and these three when the script started.
leader='' second='' third='' at_start=''

tour() {
    read -r leader second third <<<"$at_start"
    who_leads
    writing
    handover
    death
    majority
    failures
}

# await_leader NAME…: waits until one of these nodes leads. Sets `leader`, and `second` and `third`.
await_leader() {
    local tenths name
    for ((tenths = 0; tenths < AWAIT_TENTHS_MAX; tenths++)); do
        for name in "$@"; do
            if dial "$name" && matches "$(ask "$name" ROLE)" '^1\) master$'; then
                leader=$name
                case $name in A) second=B third=C ;; B) second=A third=C ;; C) second=A third=B ;; esac
                return 0
            fi
            hang_up "$name"
        done
        sleep 0.1
    done
    say "no node leads:"
    tail -n 10 "$work"/*.log
    exit 1
}

follows() { awaits "$1" 'ROLE' '^4\) connected$' '^[134]'; }

who_leads() {
    title "1. Each node knows who leads; two of the three votes were needed"
    types "$leader" 'ROLE' '^1\) master$'
    explain_leaders_role
    awaits "$second" 'ROLE' '^4\) connected$'
    explain_followers_role
    types "$second" 'INFO cluster' "^kvstore_cluster_leader:127.0.0.1:${port[$leader]}$" '^kvstore_'
}

writing() {
    local token
    title "2. Only the leader takes writes; a follower answers reads"
    follows "$third"
    types "$leader" 'SET name Ada' '^OK$'
    types "$leader" 'LASTSEQ' '.*:.*'
    token=${answer:-TOKEN}
    explain_token
    types "$second" 'SET name Bea' "^READONLY .* The leader is 127.0.0.1:${port[$leader]}$"
    say "    LASTSEQ gives a token of the write; WAITSEQ waits until this follower has it:"
    types "$second" "WAITSEQ $token 5000" '^OK$'
    types "$second" 'GET name' '^Ada$'
    types "$second" 'REPLICAOF 127.0.0.1 1' '^ERR the cluster decides who leads$'
}

handover() {
    title "3. A handover that is asked for: no write is lost, and the others wait for milliseconds"
    awaits "$second" 'PROMOTE' '^OK'
    local before=$leader
    leader=$second second=$before
    follows "$before"
    types "$before" 'SET name Bea' "^READONLY .* The leader is 127.0.0.1:${port[$leader]}$"
}

death() {
    local dead=$leader
    title "4. kill -9 of the leader, process ${pid[$leader]-}: after one to two election-timeouts, which are 1 s, another one leads"
    does kill "$leader"
    if [ "$mode" = guide ]; then
        say "    ROLE on the other two says which; say it is $second."
        leader=$second second=$dead
    else
        await_leader "$second" "$third"
    fi
    types "$leader" 'GET name' '^Ada$'
    awaits "$leader" 'SET name Bea' '^OK$'
    say "    The old leader returns as a follower:"
    does start "$dead"
    follows "$dead"
    awaits "$dead" 'GET name' '^Bea$'
}

majority() {
    title "5. ack majority: an OK says that two of three nodes have the write"
    follows "$third"
    awaits "$leader" 'CONFIG SET ack majority' '^OK$'
    does pause "$second"
    types "$leader" 'SET city Aachen' '^OK$'
    does pause "$third"
    say "    Two of three are gone, so the leader steps down: others could decide without it."
    awaits "$leader" 'SET town Bonn' '^READONLY .* No leader is known, an election is under way.*'
    does go "$second"
    does go "$third"
    if [ "$mode" = demo ]; then await_leader A B C; else say "    A moment later one of the three leads again:"; fi
    awaits "$leader" 'GET city' '^Aachen$'
    awaits "$leader" 'CONFIG SET ack leader' '^OK$'
}

failures() {
    title "6. What a failure of the leader costs, under load"
    if [ "$mode" = guide ]; then
        say "    \$ scripts/failover.py" \
            "    starts three more nodes, kills, stops and isolates their leader, and looks for each acknowledged write"
        return 0
    fi
    if ! command -v python3 >/dev/null; then say "    skipped: needs python3"; return 0; fi
    KVSTORE=$KVSTORE python3 "$here/failover.py" 2>&1 | sed 's/^/    /' || fail "scripts/failover.py"
}

begin "$@"
first=$(free_ports 8080 3)
nodes=127.0.0.1:$first,127.0.0.1:$((first + 1)),127.0.0.1:$((first + 2))
for offset in 0 1 2; do
    colours=(32 33 36) names=(A B C)
    new_node "${names[$offset]}" $((first + offset)) "${colours[$offset]}" "cluster-nodes $nodes"
done
await_leader A B C
at_start="$leader $second $third"
introduce A B C
say "$leader leads."
finish
