#!/usr/bin/env node
// Asks a name server with c-ares, as Node does it, many at a time: resolve.js SERVER COUNT. Prints, as JSON, how often which kind
// of question was answered, and how.
'use strict';
const dns = require('dns').promises;

const [server, count] = [process.argv[2], Number(process.argv[3])];
const resolver = new dns.Resolver({ timeout: 10000, tries: 1 });
resolver.setServers([server.includes(':') ? `[${server}]` : server]);
const answered = {};
const note = (what) => { answered[what] = (answered[what] ?? 0) + 1; };

const asks = [
  async () => { await resolver.resolve4('one.example'); note('A'); },
  async () => { await resolver.resolve6('two.example'); note('AAAA'); },
  async () => { await resolver.reverse('198.51.100.1'); note('PTR'); },
  async () => {
    try {
      await resolver.resolveMx('nope.example');
    } catch (error) {
      if (error.code !== 'ENOTFOUND') throw error;
      note('MX');
    }
  },
];

(async () => {
  for (let at = 0; at < count; at += 20) {
    await Promise.all([...Array(Math.min(20, count - at)).keys()].map((number) => asks[(at + number) % asks.length]()));
  }
  console.log(JSON.stringify(answered));
})();
