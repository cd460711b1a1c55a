/// <reference types="node" />
/*
 * A real HTTP and WebSocket server on loopback that says what a test tells it to.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer, type WebSocket as Socket } from 'ws';

export interface Loopback {
  readonly base: string;
  readonly requests: { url: string; headers: IncomingMessage['headers'] }[];
  readonly sockets: Socket[];
  /** What a plain request gets; replaced by a test at will. */
  answer: (request: IncomingMessage, response: ServerResponse) => void;
  /** What a new socket is told; null refuses sockets. */
  greet: ((socket: Socket, url: string) => void) | null;
  close(): Promise<void>;
}

export async function loopback(): Promise<Loopback> {
  const sockets: Socket[] = [];
  const requests: Loopback['requests'] = [];
  const upgrades = new WebSocketServer({ noServer: true });
  const server: Server = createServer((request, response) => {
    requests.push({ url: request.url ?? '', headers: request.headers });
    response.setHeader('Access-Control-Allow-Origin', '*');
    here.answer(request, response);
  });
  server.on('upgrade', (request, stream, head) => {
    requests.push({ url: request.url ?? '', headers: request.headers });
    const greet = here.greet;
    if (greet === null) {
      stream.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n');
      return;
    }
    upgrades.handleUpgrade(request, stream, head, (socket) => {
      sockets.push(socket);
      greet(socket, request.url ?? '');
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  const here: Loopback = {
    base: `http://127.0.0.1:${port}/user/ada/`,
    requests,
    sockets,
    answer: (_, response) => response.writeHead(404).end(),
    greet: null,
    close: () =>
      new Promise((done) => {
        sockets.forEach((socket) => socket.terminate());
        server.closeAllConnections();
        server.close(() => done());
      })
  };
  return here;
}

export function json(value: unknown): Loopback['answer'] {
  return (_, response) => {
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(value));
  };
}

/** Wait until `true_` holds; fails after two seconds by saying what was waited for. */
export async function until(what: string, true_: () => boolean, seconds = 4): Promise<void> {
  const end = Date.now() + seconds * 1000;
  while (!true_()) {
    if (Date.now() > end) {
      throw new Error(`waited ${seconds} s in vain: ${what}`);
    }
    await new Promise((next) => setTimeout(next, 10));
  }
}

export function pauseFor(milliseconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, milliseconds));
}
