#!/usr/bin/env node
// keyv with @keyv/redis: a cache with namespaces and lifetimes. Started by scripts/apps.py.
"use strict";

const assert = require("node:assert/strict");
const { default: Keyv } = require("keyv");
const { default: KeyvRedis } = require("@keyv/redis");
const { installed, restart, eventually, run } = require("./common");

const URL_OF_SERVER = `redis://127.0.0.1:${process.argv[2]}`;

function cache(namespace) {
  const keyv = new Keyv({ store: new KeyvRedis(URL_OF_SERVER), namespace });
  keyv.on("error", () => {}); // it connects anew after the restart
  return keyv;
}

async function main() {
  const [users, pages] = [cache("users"), cache("pages")];
  await users.set("ada", { name: "Ada", langs: ["en", "fr"] });
  await pages.set("ada", "<h1>Ada</h1>");
  assert.deepEqual(await users.get("ada"), { name: "Ada", langs: ["en", "fr"] });
  assert.equal(await users.get("nothing"), undefined);
  assert.equal(await users.has("ada"), true);

  await pages.set("short", "x", 50);
  await eventually("an entry that expires", async () => (await pages.get("short")) === undefined);
  await pages.setMany([{ key: "a", value: 1 }, { key: "b", value: 2 }]);
  assert.deepEqual(await pages.get(["a", "b", "nothing"]), [1, 2, undefined]);
  assert.equal(await pages.delete(["a", "b"]), true);
  const found = [];
  for await (const [key] of pages.iterator()) found.push(key);
  assert.deepEqual(found, ["ada"]);

  await pages.clear();
  assert.equal(await pages.get("ada"), undefined);
  await restart();
  await eventually("the entry after the restart", async () => (await users.get("ada"))?.name === "Ada");
  const versions = `${installed("@keyv/redis")} (keyv ${installed("keyv")})`;
  console.log(`@keyv/redis ${versions}: values, many at once, expiry, one namespace cleared; after kill -9 too`);
}

run(main);
