#!/usr/bin/env node
// socket.io with its Redis adapter: two servers, and clients that do not notice. Started by scripts/apps.py.
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const http = require("node:http");
const { Server } = require("socket.io");
const { io } = require("socket.io-client");
const { createAdapter } = require("@socket.io/redis-adapter");
const redis = require("redis");
const { installed, eventually, run } = require("./common");

// One server, on a free port, with two connections to kvstore.
async function start() {
  const pub = redis.createClient({ url: `redis://127.0.0.1:${process.argv[2]}` });
  const sub = pub.duplicate();
  await Promise.all([pub.connect(), sub.connect()]);
  const server = http.createServer();
  const sockets = new Server(server, { adapter: createAdapter(pub, sub) });
  sockets.on("connection", (socket) => {
    socket.on("join", (room, done) => {
      socket.join(room);
      done();
    });
    socket.on("say", (room, text) => sockets.to(room).emit("said", text));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { sockets, at: `http://127.0.0.1:${server.address().port}` };
}

async function join(at, room) {
  const client = io(at, { transports: ["websocket"] });
  client.heard = [];
  client.on("said", (text) => client.heard.push(text));
  await once(client, "connect");
  await client.emitWithAck("join", room);
  return client;
}

async function main() {
  const [first, second] = [await start(), await start()];
  const counted = async () => (await first.sockets.fetchSockets()).length === 3;
  const ada = await join(first.at, "blue");
  const bob = await join(second.at, "blue");
  const eve = await join(second.at, "red");
  await eventually("servers that know of each other's clients", counted);

  ada.emit("say", "blue", "hello");
  bob.emit("say", "blue", "hello yourself");
  for (const client of [ada, bob]) await eventually("both messages", () => client.heard.length === 2);
  assert.deepEqual([...ada.heard].sort(), ["hello", "hello yourself"]);

  first.sockets.in("red").socketsJoin("blue");
  await eventually("a client of the other server that was moved", async () => (
    (await first.sockets.in("blue").fetchSockets()).length === 3));
  ada.emit("say", "blue", "welcome");
  await eventually("the message to the moved client", () => eve.heard.length === 1);
  assert.deepEqual(eve.heard, ["welcome"]);

  first.sockets.in("blue").disconnectSockets();
  await eventually("clients of both servers that were sent away", () => !(bob.connected || eve.connected));
  const versions = `${installed("@socket.io/redis-adapter")} (socket.io ${installed("socket.io")})`;
  console.log(`@socket.io/redis-adapter ${versions}: rooms over two servers: messages, who is there, moves, goodbyes`);
}

run(main);
