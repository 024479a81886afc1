#!/usr/bin/env bash
# Tries TLS in front of kvstore: makes a certificate of its own, starts kvstore (target/release/kvstore, or KVSTORE=...)
# on a free port of 127.0.0.1 and haproxy or stunnel before it, and speaks to it with `redis-cli --tls`. Everything is in
# a temporary directory, and ends with the script. Type next: the configuration that it prints, with your certificate.
set -euo pipefail
cd "$(dirname "$0")/../.."
kvstore=${KVSTORE:-target/release/kvstore}

skip() {
    echo "skipped TLS: $1"
    exit 0
}
command -v openssl >/dev/null || skip "no openssl (apt-get install openssl)"
command -v redis-cli >/dev/null || skip "no redis-cli (apt-get install redis-tools)"
[[ $(redis-cli --help 2>&1 || true) == *--tls* ]] || skip "this redis-cli has no TLS"
if command -v haproxy >/dev/null; then
    front=haproxy
elif command -v stunnel >/dev/null; then
    front=stunnel
else
    skip "neither haproxy nor stunnel (apt-get install haproxy)"
fi

work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap cleanup EXIT

free_port() {
    # Below the ports of outgoing connections, so that none of them gets it meanwhile.
    local port
    while true; do
        port=$((20000 + RANDOM % 10000))
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# Waits up to 10 s until a command succeeds.
until_ok() {
    for _ in $(seq 100); do
        if "$@" >"$work/answer" 2>&1; then return; fi
        sleep 0.1
    done
    echo "still failing: $*"
    cat "$work/answer" "$work"/*.log
    exit 1
}

openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/openssl.log"
cat "$work/cert.pem" "$work/key.pem" >"$work/both.pem"

"$kvstore" serve --port 0 --metrics-port 0 --dir "$work/data" >"$work/ready" 2>"$work/kvstore.log" &
pids+=($!)
until_ok grep -q "ready on" "$work/ready"
plain=$(sed -n 's/.* ready on 127.0.0.1:\([0-9]*\).*/\1/p' "$work/ready")
tls=$(free_port)

if [ "$front" = haproxy ]; then
    cat >"$work/front.cfg" <<END
defaults
    mode tcp
    timeout connect 1s
    # A subscriber may be silent for long.
    timeout client 1h
    timeout server 1h

listen kvstore
    bind 127.0.0.1:$tls ssl crt $work/both.pem
    server kvstore 127.0.0.1:$plain
END
    haproxy -db -f "$work/front.cfg" 2>"$work/front.log" &
else
    cat >"$work/front.cfg" <<END
foreground = yes
pid =
[kvstore]
accept = 127.0.0.1:$tls
connect = 127.0.0.1:$plain
cert = $work/both.pem
END
    stunnel "$work/front.cfg" 2>"$work/front.log" &
fi
pids+=($!)
echo "--- $front in front of kvstore:"
cat "$work/front.cfg"

client=(redis-cli --tls --cacert "$work/cert.pem" -h localhost -p "$tls")
until_ok "${client[@]}" ping
"${client[@]}" set greeting "through TLS" >/dev/null
[ "$("${client[@]}" get greeting)" = "through TLS" ]
if redis-cli -p "$tls" ping >"$work/answer" 2>&1 && grep -q PONG "$work/answer"; then
    echo "FAILED: the port answers without TLS"
    exit 1
fi
echo "--- ok: redis-cli --tls, with the certificate checked; without TLS there is no answer"
