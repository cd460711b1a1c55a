import { afterEach, beforeEach, expect, test } from 'vitest';

import { Connection, type Fault } from '../src/shared/connection';
import { watch, type Knowledge } from '../src/shared/line';
import type { Usage } from '../src/shared/sample';
import { json, loopback, pauseFor, until, type Loopback } from './loopback';
import { message, NO_GPU } from './messages';

let server: Loopback;
let usages: Usage[];
let faults: (Fault | null)[];
let connection: Connection | null;

beforeEach(async () => {
  server = await loopback();
  usages = [];
  faults = [];
  connection = null;
});

afterEach(async () => {
  connection?.close();
  setHidden(false);
  document.cookie = '_xsrf=; max-age=0';
  await server.close();
});

function connect(): void {
  connection = new Connection(server.base, 'en', {
    usage: (usage) => usages.push(usage),
    fault: (fault) => faults.push(fault)
  });
}

function setHidden(hidden: boolean): void {
  Object.defineProperty(document, 'hidden', { configurable: true, value: hidden });
  document.dispatchEvent(new Event('visibilitychange'));
}

test('figures come by WebSocket, and nothing is polled beside it', async () => {
  server.greet = (socket) => socket.send(JSON.stringify(message(1)));
  connect();
  await until('the greeting', () => usages.length === 1);
  server.sockets[0]!.send(JSON.stringify(message(2)));
  await until('the second tick', () => usages.length === 2);

  expect(usages.map((usage) => usage.sequence)).toEqual([1, 2]);
  expect(server.requests.map((request) => request.url)).toEqual([
    '/user/ada/aliquot/api/stream?lang=en&since=0'
  ]);
});

test('without a WebSocket the figures are polled, with the XSRF token', async () => {
  document.cookie = '_xsrf=2|abc|def';
  server.answer = json(message(7));
  connect();
  await until('a polled figure', () => usages.length === 1);

  const poll = server.requests.find((request) => request.url.includes('usage'))!;
  expect(poll.url).toBe('/user/ada/aliquot/api/usage?lang=en&since=0');
  expect(poll.headers['x-xsrftoken']).toBe('2|abc|def');
});

test('a socket that breaks is opened again and resumes after the last tick', async () => {
  server.greet = (socket) => socket.send(JSON.stringify(message(5)));
  connect();
  await until('the first tick', () => usages.length === 1);
  server.sockets[0]!.terminate();
  await until('the second socket', () => server.sockets.length === 2);

  expect(server.requests.at(-1)?.url).toContain('since=5');
});

test.each([
  [403, 'refused'],
  [404, 'absent'],
  [500, 'lost']
] as const)('an answer %i is told as %s', async (status, fault) => {
  server.answer = (_, response) => response.writeHead(status).end();
  connect();
  await until('the fault', () => faults.length === 1);

  expect(faults).toEqual([fault]);
});

test('a redirect to a login page is a refusal, not figures', async () => {
  server.answer = (_, response) => response.writeHead(302, { Location: '/hub/login' }).end();
  connect();
  await until('the fault', () => faults.length === 1);

  expect(faults).toEqual(['refused']);
});

test('an answer of another version is told, and a good one ends the fault', async () => {
  server.greet = (socket) => socket.send(JSON.stringify({ version: 9 }));
  connect();
  await until('the fault', () => faults.length === 1);
  server.sockets[0]!.send(JSON.stringify(message(1)));
  await until('a tick', () => usages.length === 1);

  expect(faults).toEqual(['other', null]);
});

test('a hidden tab holds no connection, a shown one has it again', async () => {
  let closed = 0;
  server.greet = (socket) => {
    socket.on('close', () => (closed += 1));
    socket.send(JSON.stringify(message(1)));
  };
  connect();
  await until('the first tick', () => usages.length === 1);
  setHidden(true);
  await until('the close', () => closed === 1);
  await pauseFor(300);
  expect(server.requests).toHaveLength(1);
  setHidden(false);
  await until('the second socket', () => server.sockets.length === 2);
});

test('a server without a GPU is asked once and left alone', async () => {
  let closed = 0;
  server.greet = (socket) => {
    socket.on('close', () => (closed += 1));
    socket.send(JSON.stringify(NO_GPU));
  };
  connect();
  await until('the answer', () => usages.length === 1 && closed === 1);
  await pauseFor(1500);

  expect(server.requests).toHaveLength(1);
});

test('a page of ten watchers holds one connection, and the last one closes it', async () => {
  let closed = 0;
  server.greet = (socket) => {
    socket.on('close', () => (closed += 1));
    socket.send(JSON.stringify(message(1)));
  };
  const seen: Knowledge[][] = Array.from({ length: 10 }, () => []);
  const stops = seen.map((list) => watch(server.base, 'en', (known) => list.push(known)));
  await until('all told', () => seen.every((list) => list.at(-1)?.usage?.sequence === 1));

  expect(server.sockets).toHaveLength(1);
  stops.slice(1).forEach((stop) => stop());
  await pauseFor(50);
  expect(closed).toBe(0);
  stops[0]!();
  await until('the close', () => closed === 1);
});
