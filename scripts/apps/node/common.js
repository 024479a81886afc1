// What the programs of this directory share.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");

const SECONDS_MAX = 20;

// The version of a library that is on NODE_PATH. Not all of them let `require` read their package.json.
function installed(library) {
  const file = path.join(process.env.NODE_PATH, library, "package.json");
  return JSON.parse(fs.readFileSync(file, "utf8")).version;
}

// Has the server killed and started again on the same data.
async function restart() {
  console.log("restart");
  const lines = readline.createInterface({ input: process.stdin });
  await new Promise((resolve) => lines.once("line", resolve));
  lines.close();
}

// Polls until the condition holds.
async function eventually(what, condition) {
  for (const end = Date.now() + SECONDS_MAX * 1000; Date.now() < end; ) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited in vain for ${what}`);
}

// Runs a program to its end; any error makes it a failure.
function run(main) {
  main().then(() => process.exit(0), (error) => {
    console.error(error);
    process.exit(1);
  });
}

module.exports = { installed, restart, eventually, run };
