#!/usr/bin/env bash
# Runs real, unchanged Redis clients against kvstore and checks that they work.
#
# Starts: target/release/kvstore (or $KVSTORE) three times on free ports of 127.0.0.1, without a log: with
#         its defaults, with a password, and with `inline-replies resp`. Then a leader and two followers
#         and, if it is installed, redis-sentinel three times. Then three nodes that elect their leader. Last
#         the programs in examples/, with one node and with three.
#         Ctrl-C ends them all.
# Type next:
#   scripts/clients.sh --install     fetch redis-py, node-redis and ioredis into target/clients
#   scripts/clients.sh               all checks (a million keys through redis-cli --pipe)
#   scripts/clients.sh --short       the same with a tenth of the load
#   KVSTORE_SUBJECT=redis scripts/clients.sh     the same against redis-server, to test the checks
#
# Prints one line per check and a total. Exit code 1 if one failed. A client that is not installed is skipped.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
KVSTORE=${KVSTORE:-$ROOT/target/release/kvstore}
SUBJECT=${KVSTORE_SUBJECT:-kvstore}
CLIENTS_DIR=${CLIENTS_DIR:-$ROOT/target/clients}
PASSWORD=open-sesame
PIPE_KEYS=1000000
BENCHMARK_REQUESTS=100000

passed=0 failed=0 skipped=0
server_pids=()
work=

usage() { sed -n '2,/^set -/{s/^# \{0,1\}//;/^set -/d;p}' "${BASH_SOURCE[0]}"; }

# Fetches the newest versions, and redis-py 5, the last that uses RESP2 by default. Installs nothing
# system-wide. The checks skip a client that cannot be fetched (no pip, no npm, no network) and say so.
install_clients() {
    mkdir -p "$CLIENTS_DIR/node"
    if python3 -m pip --version >/dev/null 2>&1; then
        pip_install redis-py redis
        pip_install redis-py-5 'redis<6'
    else
        echo "no pip: redis-py not installed (apt-get install python3-pip)"
    fi
    if command -v npm >/dev/null; then
        npm install --silent --no-audit --no-fund --prefix "$CLIENTS_DIR/node" redis ioredis ||
            echo "npm failed: node-redis and ioredis not installed"
    else
        echo "no npm: node-redis and ioredis not installed (apt-get install nodejs npm)"
    fi
}

pip_install() {
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --upgrade --target "$CLIENTS_DIR/$1" "$2" || echo "pip failed: $1 not installed"
}

# --- servers -------------------------------------------------------------------------------------

cleanup() {
    local pid
    for pid in "${server_pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    [ -z "$work" ] || rm -rf "$work"
}

# start_server NAME [OPTION…] sets `port` and appends to server_pids.
start_server() {
    local name=$1 pid
    local options=("${@:2}") argv=()
    mkdir -p "$work/$name"
    for _ in 1 2 3; do
        if [ "$SUBJECT" = redis ]; then
            # Redis cannot choose a free port. It ends at once if the port is taken; then try another.
            port=$((20000 + RANDOM % 10000))
            argv=(redis-server --port "$port" --save '' --appendonly no)
        else
            argv=("$KVSTORE" serve --port 0 --appendonly no)
        fi
        argv+=(--bind 127.0.0.1 "${options[@]}")
        (cd "$work/$name" && exec "${argv[@]}") \
            >"$work/$name.out" 2>"$work/$name.err" </dev/null &
        pid=$!
        server_pids+=("$pid")
        if wait_ready "$name" "$pid"; then return 0; fi
        [ "$SUBJECT" = redis ] || break
    done
    echo "FAIL the server \`${argv[*]}\` does not start:"
    tail -n 20 "$work/$name.out" "$work/$name.err"
    exit 1
}

wait_ready() {
    local name=$1 pid=$2 step
    for ((step = 0; step < 200; step++)); do
        if [ "$SUBJECT" = redis ]; then
            if grep -q 'eady to accept connections' "$work/$name.out"; then return 0; fi
        else
            port=$(sed -n 's/.*ready on 127\.0\.0\.1:\([0-9][0-9]*\).*/\1/p' "$work/$name.out")
            if [ -n "$port" ]; then return 0; fi
        fi
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

# Sends SIGTERM to each server; each must end with exit code 0.
stop_servers() {
    local pid step result=0
    for pid in "${server_pids[@]}"; do
        kill -TERM "$pid" || { echo "a server is gone"; result=1; }
        for ((step = 0; step < 400; step++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        if kill -KILL "$pid" 2>/dev/null; then echo "a server ignores SIGTERM"; fi
        wait "$pid" || { echo "a server ended with exit code $?"; result=1; }
    done
    server_pids=()
    return "$result"
}

# --- reporting -----------------------------------------------------------------------------------

# check NAME COMMAND…: passes if the command succeeds; otherwise prints the end of its output.
check() {
    local name=$1
    shift
    if "$@" >"$work/output" 2>&1; then
        echo "ok   $name"
        passed=$((passed + 1))
    else
        echo "FAIL $name"
        tail -n 15 "$work/output" | sed 's/^/     | /'
        failed=$((failed + 1))
    fi
}

skip() {
    echo "skip $1: $2"
    skipped=$((skipped + 1))
}

# collect NAME COMMAND…: runs a script that prints `ok …`, `FAIL …` and `skip …` lines, and counts them.
collect() {
    local name=$1 status=0
    shift
    timeout --foreground 300 "$@" >"$work/output" 2>"$work/errors" || status=$?
    cat "$work/output"
    passed=$((passed + $(grep -c '^ok ' "$work/output" || true)))
    skipped=$((skipped + $(grep -c '^skip ' "$work/output" || true)))
    local failures
    failures=$(grep -c '^FAIL ' "$work/output" || true)
    failed=$((failed + failures))
    if [ "$status" -ne 0 ] && [ "$failures" -eq 0 ]; then
        echo "FAIL $name ended with exit code $status"
        failed=$((failed + 1))
    fi
    [ "$status" -eq 0 ] || tail -n 15 "$work/errors" | sed 's/^/     | /'
}

# expect WANTED COMMAND…: the whole output must be WANTED.
expect() {
    local wanted=$1 got
    shift
    got=$(timeout --foreground 60 "$@" 2>&1) || true
    [ "$got" = "$wanted" ] || { echo "$*"; echo "wanted: $wanted"; echo "got: $got"; return 1; }
}

# expect_match PATTERN COMMAND…: one line of the output must match.
expect_match() {
    local pattern=$1 got
    shift
    got=$(timeout --foreground 120 "$@" 2>&1) || true
    grep -Eq -- "$pattern" <<<"$got" || { echo "$*"; echo "wanted: $pattern"; echo "got: $got"; return 1; }
}

# --- redis-cli -----------------------------------------------------------------------------------

redis_cli_one_shot() {
    local cli=(redis-cli -p "$port")
    expect OK "${cli[@]}" SET cli:greeting 'hello big world' &&
        expect 'hello big world' "${cli[@]}" GET cli:greeting &&
        expect '' "${cli[@]}" GET cli:nothing &&
        expect 1 "${cli[@]}" INCR cli:counter &&
        expect $'one\ntwo' bash -c "${cli[*]} MSET cli:a one cli:b two >/dev/null; ${cli[*]} MGET cli:a cli:b" &&
        expect 1 "${cli[@]}" EXPIRE cli:a 100 &&
        expect_match '^(99|100)$' "${cli[@]}" TTL cli:a &&
        expect OK bash -c "printf 'from stdin' | ${cli[*]} -x SET cli:stdin" &&
        expect 'from stdin' "${cli[@]}" GET cli:stdin &&
        expect_match '^ERR value is not an integer' "${cli[@]}" INCR cli:greeting &&
        expect_match '^ERR unknown command' "${cli[@]}" NOSUCHCOMMAND &&
        expect 5 "${cli[@]}" DEL cli:greeting cli:counter cli:a cli:b cli:stdin
}

redis_cli_resp3() {
    expect OK redis-cli -3 -p "$port" SET cli:three 3 &&
        expect 3 redis-cli -3 -p "$port" GET cli:three &&
        expect_match 'proto' redis-cli -3 -p "$port" HELLO 3
}

redis_cli_from_file() {
    printf 'SET cli:file "a b"\nGET cli:file\nPING\n' >"$work/commands"
    expect $'OK\na b\nPONG' bash -c "redis-cli -p $port <'$work/commands'"
}

redis_cli_scan() {
    local number
    for ((number = 0; number < 1000; number++)); do echo "SET scan:$number x"; done |
        timeout --foreground 60 redis-cli -p "$port" >/dev/null || return 1
    expect 1000 bash -c "redis-cli -p $port --scan --pattern 'scan:*' | sort -u | wc -l"
}

redis_cli_bigkeys() {
    expect_match 'Biggest +string found' redis-cli -p "$port" --bigkeys &&
        expect_match 'Sampled [1-9][0-9]* keys' redis-cli -p "$port" --bigkeys
}

redis_cli_latency() {
    timeout --foreground -s INT 2 redis-cli -p "$port" --latency -i 1 >"$work/latency" 2>&1 || true
    cat "$work/latency"
    grep -Eqx '[0-9]+ [0-9]+ [0-9.]+ [1-9][0-9]*' "$work/latency"
}

redis_cli_pipe() {
    expect OK redis-cli -p "$port" FLUSHALL &&
        awk -v keys="$PIPE_KEYS" 'BEGIN {
            for (n = 0; n < keys; n++)
                printf "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$12\r\n%012d\r\n", n, n
        }' | timeout --foreground 120 redis-cli -p "$port" --pipe >"$work/pipe" 2>&1
    cat "$work/pipe"
    grep -q "errors: 0, replies: $PIPE_KEYS" "$work/pipe" &&
        expect "$PIPE_KEYS" redis-cli -p "$port" DBSIZE &&
        expect 000000004711 redis-cli -p "$port" GET key:000000004711 &&
        expect OK redis-cli -p "$port" FLUSHALL
}

redis_cli_password() {
    expect_match '^NOAUTH' redis-cli -p "$password_port" PING &&
        expect_match '^(AUTH failed: )?WRONGPASS' \
            redis-cli -p "$password_port" --no-auth-warning -a wrong PING &&
        expect PONG redis-cli -p "$password_port" --no-auth-warning -a "$PASSWORD" PING &&
        expect PONG redis-cli -3 -p "$password_port" --no-auth-warning -a "$PASSWORD" PING
}

check_redis_cli() {
    if ! command -v redis-cli >/dev/null; then
        skip redis-cli "not installed: apt-get install redis-tools"
        return
    fi
    echo "# $(redis-cli --version)"
    check "redis-cli, one command a run" redis_cli_one_shot
    check "redis-cli -3" redis_cli_resp3
    check "redis-cli, commands from a file" redis_cli_from_file
    if command -v python3 >/dev/null; then
        collect "redis-cli at a terminal" python3 -B "$HERE/clients/redis_cli_terminal.py" "$port"
    else
        skip "redis-cli at a terminal, --stat" "needs a pseudo-terminal: apt-get install python3"
    fi
    check "redis-cli --scan" redis_cli_scan
    check "redis-cli --bigkeys" redis_cli_bigkeys
    check "redis-cli --latency" redis_cli_latency
    check "redis-cli --pipe, $PIPE_KEYS keys" redis_cli_pipe
    check "redis-cli with a password" redis_cli_password
}

# --- redis-benchmark -----------------------------------------------------------------------------

# benchmark PORT TESTS OPTION…: each test must print its line, without an error or a warning.
benchmark() {
    local at=$1 tests=$2 name
    shift 2
    timeout --foreground 120 redis-benchmark -p "$at" -n "$BENCHMARK_REQUESTS" -r 10000 -t "$tests" --csv "$@" \
        >"$work/benchmark" 2>&1 || { cat "$work/benchmark"; return 1; }
    cat "$work/benchmark"
    if grep -Eqi 'error|warning' "$work/benchmark"; then return 1; fi
    for name in ${tests//,/ }; do
        grep -qi "^\"$name" "$work/benchmark" || return 1
    done
}

check_redis_benchmark() {
    if ! command -v redis-benchmark >/dev/null; then
        skip redis-benchmark "not installed: apt-get install redis-tools"
        return
    fi
    echo "# $(redis-benchmark --version)"
    local tests=ping_mbulk,set,get,incr,mset
    check "redis-benchmark -t $tests" benchmark "$port" "$tests"
    check "redis-benchmark -t $tests -P 16" benchmark "$port" "$tests" -P 16
    check "redis-benchmark -t set,get -3" benchmark "$port" set,get -3
    # `-t ping` also sends PING as a plain line and expects a RESP reply.
    check "redis-benchmark -t ping,set,get,incr,mset, inline-replies resp" \
        benchmark "$inline_port" ping,set,get,incr,mset
    check "redis-benchmark -t ping_inline -P 16, inline-replies resp" \
        benchmark "$inline_port" ping_inline -P 16
    check "redis-benchmark with a password" benchmark "$password_port" set,get -a "$PASSWORD"
}

# --- libraries -----------------------------------------------------------------------------------

check_redis_py() {
    local directory found=0
    if ! command -v python3 >/dev/null; then
        skip redis-py "no Python: apt-get install python3, then scripts/clients.sh --install"
        return
    fi
    for directory in "$CLIENTS_DIR/redis-py" "$CLIENTS_DIR/redis-py-5"; do
        [ -d "$directory/redis" ] || continue
        found=1
        PYTHONPATH=$directory collect redis-py python3 -B "$HERE/clients/redis_py.py" \
            "$port" "$password_port" "$PASSWORD"
    done
    [ "$found" = 1 ] || skip redis-py "not installed: scripts/clients.sh --install"
}

# start_sentinel LEADER_PORT sets `port` and appends to server_pids.
start_sentinel() {
    local step pid directory
    for _ in 1 2 3; do
        port=$((10000 + RANDOM % 10000))
        directory=$work/sentinel-$port
        mkdir "$directory"
        printf '%s\n' "port $port" 'bind 127.0.0.1' "sentinel monitor kv 127.0.0.1 $1 2" \
            'sentinel down-after-milliseconds kv 2000' >"$directory/sentinel.conf"
        (cd "$directory" && exec redis-sentinel sentinel.conf) >"$directory/out" 2>&1 </dev/null &
        pid=$!
        for ((step = 0; step < 200; step++)); do
            if grep -q '+monitor' "$directory/out"; then server_pids+=("$pid"); return 0; fi
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
    done
    echo "FAIL redis-sentinel does not start:"
    tail -n 5 "$directory/out"
    exit 1
}

# The check kills the leader. The other nodes must end normally, together with the other servers.
check_redis_py_sentinel() {
    local library=$CLIENTS_DIR/redis-py leader_port leader_pid at sentinels=() port
    if ! command -v redis-sentinel >/dev/null; then
        skip "redis-py, Sentinel" "not installed: apt-get install redis-sentinel"
        return
    elif [ ! -d "$library/redis" ] || ! command -v python3 >/dev/null; then
        skip "redis-py, Sentinel" "not installed: scripts/clients.sh --install"
        return
    fi
    start_server leader --appendonly yes
    leader_port=$port leader_pid=${server_pids[-1]} at=$((${#server_pids[@]} - 1))
    # Otherwise bash would report its death, which is intended.
    disown "$leader_pid"
    start_server follower-1 --appendonly yes --replicaof "127.0.0.1 $leader_port"
    start_server follower-2 --appendonly yes --replicaof "127.0.0.1 $leader_port"
    for _ in 1 2 3; do start_sentinel "$leader_port"; sentinels+=("$port"); done
    PYTHONPATH=$library collect "redis-py, Sentinel" python3 -B "$HERE/clients/redis_py_sentinel.py" \
        "$leader_port" "$leader_pid" "${sentinels[@]}"
    kill -KILL "$leader_pid" 2>/dev/null || true
    unset "server_pids[$at]"
}

# Three nodes that elect their leader are asked as if each were a Sentinel.
check_without_sentinel() {
    if [ "$SUBJECT" = redis ]; then
        skip "clients of Sentinel without one" "Redis needs it"
    elif ! command -v python3 >/dev/null; then
        skip "clients of Sentinel without one" "apt-get install python3"
    else
        collect "clients of Sentinel without one" \
            python3 -B "$HERE/clients/cluster.py" "$KVSTORE" "$CLIENTS_DIR"
    fi
}

check_node() {
    local library script
    for library in redis:node_redis.js ioredis:ioredis.js; do
        script=${library#*:} library=${library%%:*}
        if ! command -v node >/dev/null; then
            skip "$script" "no node: apt-get install nodejs npm, then scripts/clients.sh --install"
        elif [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
            skip "$script" "its newest version needs node 20, here is $(node --version): https://nodejs.org"
        elif [ ! -d "$CLIENTS_DIR/node/node_modules/$library" ]; then
            skip "$script" "not installed: scripts/clients.sh --install"
        else
            NODE_PATH=$CLIENTS_DIR/node/node_modules collect "$script" \
                node "$HERE/clients/$script" "$port" "$password_port" "$PASSWORD"
        fi
    done
}

# --- main ----------------------------------------------------------------------------------------

start_servers() {
    start_server inline "${inline_options[@]}"
    inline_port=$port
    start_server password "${password_options[@]}"
    password_port=$port
    start_server default
}

main() {
    case ${1:-} in
        --install) install_clients; exit ;;
        --short) PIPE_KEYS=100000 BENCHMARK_REQUESTS=10000 ;;
        '') ;;
        *) usage; exit 2 ;;
    esac
    work=$(mktemp -d)
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    local inline_options password_options
    if [ "$SUBJECT" = redis ]; then
        command -v redis-server >/dev/null || { echo "redis-server is not installed"; exit 1; }
        inline_options=()
        password_options=(--requirepass "$PASSWORD")
    else
        [ -x "$KVSTORE" ] || { echo "$KVSTORE does not exist: cargo build --release"; exit 1; }
        KVSTORE=$(realpath "$KVSTORE") # servers run in directories of their own
        (umask 077 && echo "$PASSWORD" >"$work/password-file")
        inline_options=(--inline-replies resp)
        password_options=(--requirepass-file "$work/password-file")
    fi
    local port inline_port password_port
    start_servers
    echo "# $SUBJECT on 127.0.0.1:$port, with a password on $password_port, inline-replies resp on $inline_port"
    check_redis_cli
    check_redis_benchmark
    check_redis_py
    check_redis_py_sentinel
    check_node
    check_without_sentinel
    if [ "$SUBJECT" = kvstore ]; then
        collect "the client library" python3 -B "$HERE/clients/rust_library.py" "$KVSTORE"
    fi
    check "each server is still there and ends with exit code 0 on SIGTERM" stop_servers

    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}

main "$@"
