#!/usr/bin/env node
// Asks a server with Node's library: client.js WAY HOST PORT COUNT PATH... Prints, as JSON, how often it was answered with
// which class of status.
'use strict';
const http = require('http');

const [way, host, port, count, ...paths] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: way !== 'each', maxSockets: way === 'parallel' ? 8 : 1 });
// What a request ends with. Of one that is nothing but that, the length is said.
const last = { post: 'end', large: Buffer.alloc(1 << 20, 'z') }[way];
const answered = {};

const ask = (number) => new Promise((resolve, reject) => {
  const method = way === 'post' || way === 'large' ? 'POST' : 'GET';
  const request = http.request({ host, port, agent, method, path: paths[number % paths.length] }, (response) => {
    response.resume();
    response.on('end', () => {
      const status = `${Math.floor(response.statusCode / 100)}xx`;
      answered[status] = (answered[status] ?? 0) + 1;
      resolve();
    });
  });
  request.on('error', reject);
  // Two writes: in chunks.
  if (way === 'post') request.write('a'.repeat(number * 500));
  request.end(last);
});

(async () => {
  const all = [...Array(Number(count)).keys()];
  if (way === 'parallel') {
    await Promise.all(all.map(ask));
  } else {
    for (const number of all) await ask(number);
  }
  agent.destroy();
  console.log(JSON.stringify(answered));
})();
