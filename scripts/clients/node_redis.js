#!/usr/bin/env node
// Checks node-redis, unchanged: with its defaults, with RESP2 and with RESP3.
// Usage: node_redis.js PORT PASSWORD_PORT PASSWORD, with the library on NODE_PATH.
// Starts nothing; scripts/clients.sh starts the servers.
"use strict";

const assert = require("node:assert/strict");
const { setTimeout: sleep } = require("node:timers/promises");
const redis = require("redis");
const { version } = require("redis/package.json");

const [port, passwordPort, password] = process.argv.slice(2);
const modes = { defaults: {}, RESP2: { RESP: 2 }, RESP3: { RESP: 3 } };

async function connect(options) {
  const client = redis.createClient({ ...options });
  client.on("error", () => {}); // the command's own promise reports it
  await client.connect();
  return client;
}

const checks = {
  async strings(client) {
    assert.equal(await client.set("s", "hello big world"), "OK");
    assert.equal(await client.get("s"), "hello big world");
    assert.equal(await client.get("nothing"), null);
    assert.equal(await client.append("s", "!"), 16);
    assert.equal(await client.getRange("s", 6, 8), "big");
    assert.equal(await client.mSet({ a: "1", b: "2" }), "OK");
    assert.deepEqual(await client.mGet(["a", "nothing", "b"]), ["1", null, "2"]);
    assert.equal(await client.incrBy("a", 41), 42);
    assert.equal(await client.del(["a", "b"]), 2);
    const big = "z".repeat(5_000_000);
    await client.set("big", big);
    assert.equal(await client.get("big"), big);
  },
  async expiry(client) {
    await client.set("e", "x", { EX: 100 });
    const ttl = await client.ttl("e");
    assert.ok(ttl >= 98 && ttl <= 100, `TTL ${ttl}`);
    assert.equal(await client.ttl("nothing"), -2);
    await client.pExpire("e", 50);
    await sleep(100);
    assert.equal(await client.get("e"), null);
  },
  // Commands of one tick are sent in one packet, before a reply is read.
  async pipeline(client) {
    const count = 20_000;
    const numbers = Array.from({ length: count }, (_, n) => n);
    const replies = await Promise.all([
      ...numbers.map((n) => client.set(`p:${n}`, String(n))),
      ...numbers.map((n) => client.get(`p:${n}`)),
    ]);
    assert.ok(replies.slice(0, count).every((reply) => reply === "OK"));
    assert.deepEqual(replies.slice(count), numbers.map(String));
  },
  async scan(client) {
    await Promise.all(
      Array.from({ length: 3000 }, (_, n) => client.set(`scan:${n}`, "x")),
    );
    const seen = new Set();
    for await (const found of client.scanIterator({ MATCH: "scan:*", COUNT: 100 })) {
      for (const key of [found].flat()) seen.add(key);
    }
    assert.equal(seen.size, 3000);
  },
  async errors(client) {
    await client.set("t", "text");
    await assert.rejects(client.incr("t"), /value is not an integer or out of range/);
    await assert.rejects(client.sendCommand(["NOSUCH"]), /unknown command/);
    assert.equal(await client.ping(), "PONG");
  },
  async server(client) {
    assert.match(await client.info(), /redis_version:/);
    assert.deepEqual(Object.keys(await client.configGet("maxclients")), ["maxclients"]);
    await client.clientSetName("tester");
    assert.equal(await client.clientGetName(), "tester");
    assert.ok((await client.dbSize()) >= 0);
  },
  async password(_, options) {
    const at = { ...options, socket: { port: passwordPort, reconnectStrategy: false } };
    const client = await connect({ ...at, password });
    assert.equal(await client.ping(), "PONG");
    await client.close();
    await assert.rejects(connect({ ...at, password: "wrong" }), /WRONGPASS/);
  },
};

async function main() {
  for (const [mode, options] of Object.entries(modes)) {
    for (const [name, check] of Object.entries(checks)) {
      const title = `node-redis ${version}, ${mode}: ${name}`;
      let client;
      try {
        client = await connect({ ...options, url: `redis://127.0.0.1:${port}` });
        await client.flushAll();
        await check(client, options);
        console.log(`ok   ${title}`);
      } catch (error) {
        process.exitCode = 1;
        console.log(`FAIL ${title}: ${String(error.message ?? error).slice(0, 500)}`);
      } finally {
        client?.destroy();
      }
    }
  }
  // A connection that a failed check left open must not keep this process alive.
  process.exit();
}

main();
