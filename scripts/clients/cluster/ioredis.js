// ioredis in its Sentinel mode at three nodes of kvstore; see ../cluster.py. Usage: ioredis.js PASSWORD PORT…
'use strict';
const Redis = require('ioredis');
const { serve, fail, password, nodes } = require('./common.js');

async function main() {
    // By itself it stays with a leader that handed over. Its `failoverDetector` listens for +switch-master,
    // but if that comes while ioredis asks for the leader, the client ends: "Connection is closed", for ever.
    const options = {
        sentinels: nodes,
        name: 'kvstore',
        password,
        sentinelPassword: password,
        reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 2 : false),
    };
    const [leader, follower] = [new Redis(options), new Redis({ ...options, role: 'slave' })];
    [leader, follower].forEach((redis) => redis.on('error', () => {}));
    await serve((key) => leader.set(key, key), (key) => follower.get(key));
}

main().catch(fail);
