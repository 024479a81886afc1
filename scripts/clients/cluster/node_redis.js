// node-redis' createSentinel at three nodes of kvstore; see ../cluster.py. Usage: node_redis.js PASSWORD PORT…
'use strict';
const { createSentinel } = require('redis');
const { serve, fail, password, nodes } = require('./common.js');

async function main() {
    const sentinel = createSentinel({
        name: 'kvstore',
        sentinelRootNodes: nodes,
        nodeClientOptions: { password },
        sentinelClientOptions: { password },
        replicaPoolSize: 1,
    });
    sentinel.on('error', () => {});
    await sentinel.connect();
    // With a pool for replicas, it reads there by itself.
    await serve((key) => sentinel.set(key, key), (key) => sentinel.get(key));
}

main().catch(fail);
