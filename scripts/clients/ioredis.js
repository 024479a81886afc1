#!/usr/bin/env node
// Checks ioredis, unchanged, with its defaults (it asks for INFO and waits for `loading:0`).
// Usage: ioredis.js PORT PASSWORD_PORT PASSWORD, with the library on NODE_PATH.
// Starts nothing; scripts/clients.sh starts the servers.
"use strict";

const assert = require("node:assert/strict");
const { setTimeout: sleep } = require("node:timers/promises");
const { Redis } = require("ioredis");
const { version } = require("ioredis/package.json");

const [port, passwordPort, password] = process.argv.slice(2);

async function connect(at, options) {
  const client = new Redis({
    host: "127.0.0.1",
    port: Number(at),
    lazyConnect: true,
    retryStrategy: null,
    maxRetriesPerRequest: 0,
    ...options,
  });
  client.on("error", () => {}); // the command's own promise reports it
  await client.connect();
  return client;
}

const checks = {
  async strings(client) {
    assert.equal(await client.set("s", "hello big world"), "OK");
    assert.equal(await client.get("s"), "hello big world");
    assert.equal(await client.get("nothing"), null);
    assert.equal(await client.mset({ a: "1", b: "2" }), "OK");
    assert.deepEqual(await client.mget("a", "nothing", "b"), ["1", null, "2"]);
    assert.equal(await client.incrby("a", 41), 42);
    const binary = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
    await client.set("binary", binary);
    assert.deepEqual(await client.getBuffer("binary"), binary);
  },
  async expiry(client) {
    await client.set("e", "x", "EX", 100);
    const ttl = await client.ttl("e");
    assert.ok(ttl >= 98 && ttl <= 100, `TTL ${ttl}`);
    await client.pexpire("e", 50);
    await sleep(100);
    assert.equal(await client.get("e"), null);
  },
  async pipeline(client) {
    const count = 20_000;
    const batch = client.pipeline();
    for (let n = 0; n < count; n++) batch.set(`p:${n}`, n);
    for (let n = 0; n < count; n++) batch.get(`p:${n}`);
    const replies = await batch.exec();
    assert.ok(replies.every(([error]) => error === null));
    assert.ok(replies.slice(count).every(([, value], n) => value === String(n)));
  },
  async scan(client) {
    await client.mset(Object.fromEntries(Array.from({ length: 3000 }, (_, n) => [`scan:${n}`, n])));
    const seen = new Set();
    for await (const keys of client.scanStream({ match: "scan:*", count: 100 })) {
      for (const key of keys) seen.add(key);
    }
    assert.equal(seen.size, 3000);
  },
  async errors(client) {
    await client.set("t", "text");
    await assert.rejects(client.incr("t"), /value is not an integer or out of range/);
    await assert.rejects(client.call("NOSUCH"), /unknown command/);
  },
  async password() {
    const client = await connect(passwordPort, { password });
    assert.equal(await client.ping(), "PONG");
    client.disconnect();
    await assert.rejects(async () => {
      const refused = await connect(passwordPort, { password: "wrong" });
      await refused.ping();
    }, /WRONGPASS|closed|NOAUTH/);
  },
};

async function main() {
  for (const [name, check] of Object.entries(checks)) {
    const title = `ioredis ${version}, defaults: ${name}`;
    let client;
    try {
      client = await connect(port, {});
      await client.flushall();
      await check(client);
      console.log(`ok   ${title}`);
    } catch (error) {
      process.exitCode = 1;
      console.log(`FAIL ${title}: ${String(error.message ?? error).slice(0, 500)}`);
    } finally {
      client?.disconnect();
    }
  }
  // A connection that a failed check left open must not keep this process alive.
  process.exit();
}

main();
