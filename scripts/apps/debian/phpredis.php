<?php
// phpredis: values, counters, a transaction, SCAN, and PHP's own sessions. Started by scripts/apps.py.

function ensure(bool $holds, string $what): void {
    if (!$holds) {
        fwrite(STDERR, "failed: $what\n");
        exit(1);
    }
}

// What one request of a browser does with its session.
function visit(string $id, callable $page) {
    session_id($id);
    session_start();
    $answer = $page();
    session_write_close();
    $_SESSION = [];
    return $answer;
}

$port = (int) $argv[1];
ini_set('session.save_handler', 'redis');
ini_set('session.save_path', "tcp://127.0.0.1:$port");
ini_set('session.use_cookies', '0');
ini_set('session.cache_limiter', '');

$redis = new Redis();
ensure($redis->connect('127.0.0.1', $port), 'connect');
ensure($redis->setex('short', 100, 'x') && $redis->ttl('short') <= 100, 'setex');
$redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
ensure($redis->set('user', ['name' => 'Ada']) && $redis->get('user') === ['name' => 'Ada'], 'set and get');
$redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_NONE);
ensure($redis->get('nothing') === false, 'a missing key');
ensure($redis->set('lock', 'me', ['nx', 'ex' => 10]) && !$redis->set('lock', 'you', ['nx', 'ex' => 10]), 'set nx');
ensure($redis->incrBy('visits', 41) === 41, 'incrBy');
ensure($redis->multi()->incr('visits')->get('visits')->exec() === [42, '42'], 'multi');
ensure($redis->mset(['k:1' => 1, 'k:2' => 2]) && $redis->mget(['k:1', 'none', 'k:2']) === ['1', false, '2'], 'mget');
$redis->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
for ($cursor = null, $found = []; $keys = $redis->scan($cursor, 'k:*'); array_push($found, ...$keys));
sort($found);
ensure($found === ['k:1', 'k:2'], 'scan');

visit('browser1', function () { $_SESSION['name'] = 'Ada'; });
echo "restart\n";
fgets(STDIN);
ensure(visit('browser1', fn() => $_SESSION['name'] ?? null) === 'Ada', 'the session after the restart');
ensure(visit('browser2', fn() => $_SESSION['name'] ?? null) === null, 'the session of another browser');
visit('browser1', fn() => session_destroy());
ensure(visit('browser1', fn() => $_SESSION['name'] ?? null) === null, 'the session after the logout');
echo 'phpredis ', phpversion('redis'), ": values, counters, MULTI, SCAN; PHP's sessions, after kill -9 too\n";
