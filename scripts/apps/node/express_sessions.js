#!/usr/bin/env node
// express-session with connect-redis: a login that two servers of one site see. Started by scripts/apps.py.
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const express = require("express");
const session = require("express-session");
const { RedisStore } = require("connect-redis");
const redis = require("redis");
const { installed, restart, run } = require("./common");

const LIFETIME_SECONDS = 600;

// One server of the site, on a free port. Returns its address.
async function site(client) {
  const app = express();
  const store = new RedisStore({ client, ttl: LIFETIME_SECONDS });
  app.use(session({ store, secret: "s", resave: false, saveUninitialized: false }));
  app.get("/login/:name", (request, response) => {
    request.session.name = request.params.name;
    response.send("welcome");
  });
  app.get("/", (request, response) => response.send(request.session.name ?? "nobody"));
  app.get("/logout", (request, response) => request.session.destroy(() => response.send("bye")));
  const server = app.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${server.address().port}`;
}

async function connect() {
  const client = redis.createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
  client.on("error", () => {}); // it connects anew after the restart
  await client.connect();
  return client;
}

async function main() {
  const client = await connect();
  const [first, second] = [await site(client), await site(await connect())];
  const login = await fetch(`${first}/login/Ada`);
  assert.equal(await login.text(), "welcome");
  const headers = { cookie: login.headers.get("set-cookie").split(";")[0] };
  const home = async (at, options) => (await fetch(at, options)).text();

  assert.equal(await home(second, { headers }), "Ada");
  assert.equal(await home(second), "nobody");
  const [key] = await client.keys("sess:*");
  const seconds = await client.ttl(key);
  assert.ok(seconds > 0 && seconds <= LIFETIME_SECONDS, `TTL ${seconds}`);
  await restart();
  assert.equal(await home(first, { headers }), "Ada");
  assert.equal(await home(`${second}/logout`, { headers }), "bye");
  assert.equal(await home(first, { headers }), "nobody");
  assert.equal(await client.exists(key), 0);
  const versions = `${installed("connect-redis")} (express-session ${installed("express-session")})`;
  console.log(`connect-redis ${versions}: a login that two servers see, its lifetime, logout; after kill -9 too`);
}

run(main);
