// ioredis in its Sentinel mode at three nodes of kvstore; see ../cluster.py. Usage: ioredis.js PASSWORD PORT…
'use strict';
const Redis = require('ioredis');
const { serve, fail, password, nodes } = require('./common.js');

async function main() {
    const options = {
        sentinels: nodes,
        name: 'kvstore',
        password,
        sentinelPassword: password,
    };
    const [leader, follower] = [new Redis(options), new Redis({ ...options, role: 'slave' })];
    [leader, follower].forEach((redis) => redis.on('error', () => {}));
    await serve((key) => leader.set(key, key), (key) => follower.get(key));
}

main().catch(fail);
