#!/usr/bin/env node
// Rate limiters that need Lua; then one that does not, and the same with MULTI.
"use strict";

const assert = require("node:assert/strict");
const redis = require("redis");
const { RedisStore } = require("rate-limit-redis");
const { RateLimiterRedisNonAtomic } = require("rate-limiter-flexible");
const { installed, run } = require("../node/common");

const LIMIT = 3;

// True while there were at most LIMIT requests since the first one, in this many seconds.
async function allowed(client, who, seconds) {
  const key = `rate:${who}`;
  const [count] = await client.multi().incr(key).expire(key, seconds, "NX").exec();
  return count <= LIMIT;
}

// It loads its script twice, and leaves one failure to the process: without this line that ends it.
process.on("unhandledRejection", () => {});

async function main() {
  const client = redis.createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
  await client.connect();
  const store = new RedisStore({ sendCommand: (...words) => client.sendCommand(words) });
  const script = /unknown command 'SCRIPT'/;
  store.init({ windowMs: 1000 });
  const error = await store.increment("ada").then(() => assert.fail("it works"), (failure) => failure);
  assert.match(error.message, script);

  const limiter = new RateLimiterRedisNonAtomic(
    { storeClient: client, useRedisPackage: true, points: LIMIT, duration: 600 });
  for (let left = LIMIT - 1; left >= 0; left--) {
    assert.equal((await limiter.consume("ada")).remainingPoints, left);
  }
  await assert.rejects(limiter.consume("ada"), (refusal) => refusal.msBeforeNext > 0);

  const answers = await Promise.all(Array.from({ length: LIMIT + 2 }, () => allowed(client, "bob", 600)));
  assert.equal(answers.filter(Boolean).length, LIMIT);
  assert.ok((await client.ttl("rate:bob")) > 0);
  const said = error.message.match(/.*unknown command 'SCRIPT'/)[0];
  console.log(`rate-limit-redis ${installed("rate-limit-redis")}: ${said}; use instead: `
    + `RateLimiterRedisNonAtomic ${installed("rate-limiter-flexible")}, or MULTI, INCR, EXPIRE NX, EXEC`);
}

run(main);
