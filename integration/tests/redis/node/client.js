#!/usr/bin/env node
// Asks a Redis server with node-redis. Prints, as JSON, how many commands were answered, and with what: each call by what the
// library's documentation says it sends.
//
// client.js ADDRESS PORT WAY COUNT
'use strict';
const assert = require('assert');
const { createClient, ErrorReply, WatchError } = require('redis');

const [host, port, way, count] = [process.argv[2], Number(process.argv[3]), process.argv[4], Number(process.argv[5])];
const answered = { ok: 0, failed: 0 };
const protocols = [2, 3];
const range = (length) => [...Array(length).keys()];

// One command, by what became of it.
const note = async (promise) => {
  try {
    const value = await promise;
    answered.ok += 1;
    return value;
  } catch (error) {
    if (!(error instanceof ErrorReply)) throw error;
    answered.failed += 1;
    return error;
  }
};

// It says what protocol it wants, if that is not the first, and no more unless it is let.
const opened = async (RESP, options = {}) => {
  const client = createClient({ RESP, socket: { host, port }, disableClientInfo: true, maintNotifications: 'disabled', ...options });
  client.on('error', (error) => { throw error; });
  await client.connect();
  if (RESP === 3) answered.ok += 1;
  return client;
};

const each = async (protocol) => {
  const client = await opened(protocol);
  for (const number of range(count)) {
    await note(client.set('each', number));
    assert.equal(await note(client.get('each')), String(number));
    await note(client.hSet('each hash', { number, text: 'text' }));
    assert.equal((await note(client.hGetAll('each hash'))).number, String(number));
    assert(await note(client.lPush('each', 'x')) instanceof ErrorReply);
    assert(await note(client.sendCommand(['NONSENSE'])) instanceof ErrorReply);
    assert.equal(await note(client.get('nothing')), null);
  }
  await client.close();
};

// All that is asked for in one turn of the loop goes out together.
const together = async (protocol) => {
  const client = await opened(protocol);
  for (const size of [2, 20, 50, 200, count]) {
    await Promise.all(range(size).map((number) => note(client.set(`together ${number}`, number))));
    const values = await Promise.all(range(size).map((number) => note(client.get(`together ${number}`))));
    assert.deepEqual(values, range(size).map(String));
    await Promise.all(range(size).map((number) => note(number % 3 ? client.ping() : client.lPush('together 0', 'x'))));
  }
  await client.close();
};

const transactions = async (protocol) => {
  const [client, other] = [await opened(protocol), await opened(protocol)];
  for (const number of range(count)) {
    // MULTI and EXEC around it.
    const replies = await client.multi().set('multi', number).get('multi').incr('multi number').exec();
    assert.equal(replies.length, 3);
    answered.ok += 5;
    // In one of them an error: its EXEC is answered all the same.
    await assert.rejects(client.multi().lPush('multi', 'x').get('multi').exec());
    answered.ok += 4;
    // It is not even queued: EXEC fails as well.
    await assert.rejects(client.multi().addCommand(['NONSENSE']).get('multi').exec());
    answered.ok += 2;
    answered.failed += 2;
    // No transaction.
    await client.multi().set('multi', number).get('multi').execAsPipeline();
    answered.ok += 2;
    // Somebody else was quicker: EXEC is answered by nothing.
    await note(client.watch('multi'));
    await note(other.set('multi', 'other'));
    await assert.rejects(client.multi().get('multi').exec(), WatchError);
    answered.ok += 3;
  }
  await client.close();
  await other.close();
};

const large = async (protocol) => {
  const client = await opened(protocol);
  const value = 'x'.repeat(1 << 20);
  for (const number of range(count)) {
    await note(client.set('large', value));
    assert.equal(await note(client.get('large')), value);
    await note(client.set(`large ${number}`, Buffer.from(value)));
    // Small ones before and behind it.
    await Promise.all([client.ping(), client.set('large', value), client.get('large'), client.ping()].map(note));
    await note(client.ping());
  }
  await client.close();
};

// Several large values in one reply.
const heap = async (protocol) => {
  const client = await opened(protocol);
  const value = 'x'.repeat(1 << 20);
  for (const number of range(count)) {
    await note(client.set('heap', value));
    await note(client.set(`heap ${number}`, value));
    assert.deepEqual(await note(client.mGet(['heap', `heap ${number}`])), [value, value]);
    await note(client.ping());
  }
  await client.close();
};

const subscriptions = async (protocol) => {
  const [listener, speaker] = [await opened(protocol), await opened(protocol)];
  let heard = 0;
  await note(listener.subscribe('node channel', () => { heard += 1; }));
  for (const number of range(count)) {
    assert.equal(await note(speaker.publish('node channel', String(number))), 1);
    // Between news.
    if (protocol === 3) await note(listener.ping());
  }
  await note(listener.unsubscribe('node channel'));
  assert.equal(heard, count);
  await note(listener.ping());
  await listener.close();
  await speaker.close();
};

// What it says by itself: who it is, in two commands, and that it wants news of maintenance, on the newer protocol. Older servers
// refuse both. The same once more says what became of them.
const defaults = async (protocol) => {
  for (const _ of range(count)) {
    const client = await opened(protocol, { disableClientInfo: false, maintNotifications: undefined });
    const itself = [['CLIENT', 'SETINFO', 'LIB-VER', '1'], ['CLIENT', 'SETINFO', 'LIB-NAME', 'again']];
    if (protocol === 3) itself.push(['CLIENT', 'MAINT_NOTIFICATIONS', 'ON', 'moving-endpoint-type', 'internal-ip']);
    for (const command of itself) {
      const before = { ...answered };
      await note(client.sendCommand(command));
      answered.ok += answered.ok - before.ok;
      answered.failed += answered.failed - before.failed;
    }
    await note(client.ping());
    await client.close();
  }
};

const ways = { each, together, transactions, large, heap, subscriptions, defaults };
(async () => {
  for (const protocol of protocols) await ways[way](protocol);
  console.log(JSON.stringify(Object.entries(answered)));
})();
