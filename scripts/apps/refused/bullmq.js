#!/usr/bin/env node
// BullMQ: its queues are Lua scripts.
"use strict";

const assert = require("node:assert/strict");
const { Queue } = require("bullmq");
const { installed, run } = require("../node/common");

async function main() {
  const queue = new Queue("mails", { connection: { host: "127.0.0.1", port: Number(process.argv[2]) } });
  queue.on("error", () => {}); // the promise below has it, too
  const error = await queue.add("mail", { to: "Ada" }).then(() => assert.fail("it works"), (failure) => failure);
  const said = error.message.match(/.*unknown command 'eval(?:sha)?'/i)[0];
  console.log(`BullMQ ${installed("bullmq")}: ${said}; use instead: a queue that does not need Redis`);
}

run(main);
