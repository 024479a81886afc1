#!/usr/bin/env node
// node-redis and ioredis with the URL of a second database. node-redis goes on connecting and reports the error to
// `error` listeners only; ioredis reports it there and works with database 0.
"use strict";

const assert = require("node:assert/strict");
const redis = require("redis");
const Redis = require("ioredis");
const { eventually, installed, run } = require("../node/common");

const ERROR = /DB index is out of range/;
const url = `redis://127.0.0.1:${process.argv[2]}`;

// The errors that a client reports from now on.
function listen(client) {
  const errors = [];
  client.on("error", (error) => errors.push(error.message));
  return errors;
}

async function main() {
  const client = redis.createClient({ url: `${url}/1` });
  const errors = listen(client);
  let ended = false;
  client.connect().finally(() => { ended = true; });
  await eventually("an error, and one after trying again", () => errors.length >= 2);
  assert.equal(ended, false, "connect() has ended");
  assert.match(errors[1], ERROR);

  const other = new Redis(`${url}/1`);
  const said = listen(other);
  await eventually("an error of ioredis", () => said.length > 0);
  assert.match(said[0], ERROR);
  assert.equal(await other.set("name", "Ada"), "OK");
  const prefixed = new Redis(`${url}/0`, { keyPrefix: "shop:" });
  await prefixed.set("name", "Bob");
  assert.deepEqual(await other.mget("name", "shop:name"), ["Ada", "Bob"]);
  const versions = `node-redis ${installed("redis")}, ioredis ${installed("ioredis")}`;
  console.log(`redis://…/1 in ${versions}: ${said[0]}; use instead: a prefix for each (ioredis: keyPrefix)`);
}

run(main);
