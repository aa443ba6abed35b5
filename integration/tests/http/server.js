#!/usr/bin/env node
// A server of Node's library: server.js PORT, on all addresses of both families, until its input ends.
'use strict';
const http = require('http');

const big = Buffer.alloc(1 << 20, 'x');
const statuses = { '/missing': 404, '/moved': 301, '/broken': 500, '/nothing': 204 };
const server = http.createServer((request, response) => {
  const path = request.url.split('?')[0];
  if (request.method === 'POST' || request.method === 'PUT') {
    request.resume();
    request.on('end', () => response.end('taken\n'));
  } else if (path in statuses) {
    response.writeHead(statuses[path], { Location: '/' });
    response.end();
  } else if (path === '/big') {
    response.writeHead(200, { 'Content-Length': big.length });
    response.end(big);
  } else if (path === '/chunked') {
    response.write('y');
    response.write('y'.repeat(20));
    response.end('y'.repeat(5000));
  } else {
    response.end('hello\n');
  }
});
// A request that comes long after the one before it is answered, not refused.
server.keepAliveTimeout = 0;
server.listen(Number(process.argv[2]), '::', () => console.log('ready'));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
