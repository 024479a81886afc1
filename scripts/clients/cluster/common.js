// What the two libraries for node have in common; see ../cluster.py.
'use strict';
const readline = require('node:readline');

const MILLISECONDS_MAX = 25000;

async function eventually(action) {
    const end = Date.now() + MILLISECONDS_MAX;
    let last;
    while (Date.now() < end) {
        try {
            if (await action()) return;
        } catch (error) {
            last = error;
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`in vain; last error: ${last}`);
}

// For each line on standard input: writes that key, reads it from a follower, and prints it.
exports.serve = async (set, getFromFollower) => {
    for await (const key of readline.createInterface({ input: process.stdin })) {
        await eventually(async () => (await set(key)) === 'OK');
        await eventually(async () => (await getFromFollower(key)) === key);
        console.log(key);
    }
};

exports.fail = (error) => {
    console.error(error);
    process.exit(1);
};

const [password, ...ports] = process.argv.slice(2);
exports.password = password;
exports.nodes = ports.map((port) => ({ host: '127.0.0.1', port: Number(port) }));
