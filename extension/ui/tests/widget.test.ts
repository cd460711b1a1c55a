import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import widget, { type Model } from '../src/widget/usage';
import { json, loopback, until, type Loopback } from './loopback';
import { LEASE, message, NO_GPU } from './messages';

let server: Loopback;
let el: HTMLElement;
let sent: object[];
let traits: { sample: unknown; language: string };
let heard: Set<() => void>;
let destroy: (() => void) | null;

const RECEIPT = {
  version: 1,
  lease_id: LEASE.lease_id,
  verdict: 'mismatch',
  checked_at: '2026-11-23T05:00:05Z',
  checks: [
    {
      what: 'memory cap',
      expected: '24467 MiB',
      seen: '81559 MiB',
      result: 'fail',
      reason: 'A process here can take more memory than the lease grants.'
    }
  ]
};

beforeEach(async () => {
  server = await loopback();
  el = document.body.appendChild(document.createElement('div'));
  sent = [];
  traits = { sample: {}, language: '' };
  heard = new Set();
  destroy = null;
});

afterEach(async () => {
  destroy?.();
  vi.useRealTimers();
  document.body.replaceChildren();
  await server.close();
});

function show(onServer = true): void {
  if (onServer) {
    const said = document.body.appendChild(document.createElement('script'));
    said.id = 'jupyter-config-data';
    said.type = 'application/json';
    said.textContent = JSON.stringify({ baseUrl: server.base });
  }
  const model: Model = {
    get: (name) => traits[name],
    on: (_, listener) => heard.add(listener),
    off: (_, listener) => heard.delete(listener),
    send: (content) => sent.push(content)
  };
  destroy = widget.render({ model, el });
}

function kernelSays(sample: unknown): void {
  traits.sample = sample;
  heard.forEach((listener) => listener());
}

function anHourAgo(): string {
  return new Date(Date.now() - 3_600_000).toISOString();
}

function text(): string {
  return el.innerText ?? el.textContent ?? '';
}

function figures(): (string | null)[] {
  return [...el.querySelectorAll('.aliquot-figure')].map((node) => node.textContent);
}

test('it shows the server’s figures and does not trouble the kernel', async () => {
  server.answer = json(RECEIPT);
  server.greet = (socket) => socket.send(JSON.stringify(message(1)));
  show();
  await until('figures', () => figures().length === 2);

  expect(figures()).toEqual(['6.2 of 23.9 GiB', '24 %']);
  expect(el.querySelector('.aliquot-piece-name')?.textContent).toBe('H100 80GB · 30 blocks');
  const bar = el.querySelector('[role="progressbar"]')!;
  expect(bar.getAttribute('aria-valuenow')).toBe('26');
  expect(bar.getAttribute('aria-valuetext')).toBe('6.2 of 23.9 GiB');
  expect(text()).toContain('Whole card, shared with 3 other processes');
  expect(text()).toContain('23.9 GiB: memory and compute capped by CUDA MPS (soft).');
  expect(sent).toEqual([]);
});

test('the next tick writes into the same elements', async () => {
  server.answer = json(RECEIPT);
  server.greet = (socket) => socket.send(JSON.stringify(message(1)));
  show();
  await until('figures', () => figures().length === 2);
  const bar = el.querySelector('[role="progressbar"]');
  server.sockets[0]!.send(JSON.stringify(message(2, { busy_percent: 80 })));
  await until('the second tick', () => figures()[1] === '80 %');

  expect(el.querySelector('[role="progressbar"]')).toBe(bar);
  expect(el.querySelector('canvas')?.getAttribute('aria-label')).toBe(
    'Last 5 minutes: mean 52 %, highest 80 %'
  );
});

test('the receipt tells its verdict and what differs', async () => {
  server.answer = json(RECEIPT);
  server.greet = (socket) => socket.send(JSON.stringify(message(1)));
  show();
  await until('the receipt', () => text().includes('Mismatch'));

  expect(text()).toContain('memory cap: expected 24467 MiB, seen 81559 MiB');
});

test.each([
  ['hami', 'soft', 'memory and compute capped by HAMi (soft)', 'HAMi로 제한(소프트)'],
  ['kai', 'none', 'counted by KAI, not enforced', 'KAI가 집계만 하고 강제하지 않음'],
  ['shares', 'none', 'counted by NVIDIA DRA, not enforced', 'NVIDIA DRA가 집계만 하고 강제하지 않음'],
  ['time_slicing', 'none', 'used in turns (time-slicing), not enforced', '번갈아 사용(타임 슬라이싱)'],
  ['mig', 'hardware', 'memory and compute held by MIG (hardware)', 'MIG로 보장(하드웨어)']
])('who holds a share of %s is said in plain words', async (by, strength, english, korean) => {
  const lease = { ...LEASE, enforcement: { memory: strength, compute: strength, by } };
  const checks = [{ ...RECEIPT.checks[0], enforced_by: by }];
  server.answer = json({ ...RECEIPT, checks });
  server.greet = (socket) => socket.send(JSON.stringify(message(1, {}, { lease })));
  for (const [language, words] of [['en', english], ['ko', korean]] as const) {
    traits.language = language;
    show();
    await until(language, () => el.querySelector('.aliquot-receipt-checks li') !== null);

    const receipt = el.querySelector('.aliquot-receipt-checks')!.textContent;
    expect(receipt).toContain(words.replace('memory and compute ', ''));
    expect(text().replace(receipt, '')).toContain(words);
    destroy?.();
    document.body.querySelector('#jupyter-config-data')?.remove();
  }
});

test('a limit on memory alone is told apart from compute', async () => {
  const lease = { ...LEASE, enforcement: { memory: 'soft', compute: 'none', by: 'mps' } };
  server.answer = json(RECEIPT);
  server.greet = (socket) => socket.send(JSON.stringify(message(1, {}, { lease })));
  show();
  await until('figures', () => figures().length === 2);

  expect(text()).toContain('Memory: 23.9 GiB, a soft limit. Compute: not enforced. By CUDA MPS.');
});

test('a receipt without checks says why, and one as expected says it once', async () => {
  const reason = 'Simulated GPUs: there is nothing to verify.';
  const seen = { what: 'devices visible', expected: 'MIG-1', seen: 'MIG-1', result: 'pass' };
  server.answer = json({ ...RECEIPT, verdict: 'not_verifiable', reason, checks: [seen] });
  server.greet = (socket) => socket.send(JSON.stringify(message(1)));
  show();
  await until('the receipt', () => text().includes('Not verifiable'));

  expect(text()).toContain(reason);
  expect(text()).toContain('✓ devices visible: MIG-1, as expected.');
});

test('the notes are in the language of the newest message', async () => {
  const saying = (note: string) => ({ lease: { ...LEASE, notes: [note] } });
  server.answer = json(RECEIPT);
  server.greet = (socket) => socket.send(JSON.stringify(message(2, {}, saying('제한은 소프트'))));
  traits.sample = message(1, {}, saying('The limits are soft.'));
  show();
  await until('the server', () => text().includes('제한은 소프트'));

  expect(text()).not.toContain('The limits are soft.');
});

test('what cannot be measured is a dash with its reason, and the bar has no value', async () => {
  server.answer = json(RECEIPT);
  const unknown = message(1, {
    memory_used_mib: null,
    memory_reason: 'The driver does not permit this reading here.',
    busy_percent: null,
    busy_reason: 'Not measurable on this slice.'
  });
  server.greet = (socket) => socket.send(JSON.stringify(unknown));
  show();
  await until('figures', () => figures().length === 2);

  expect(figures()).toEqual(['–', '–']);
  expect(el.querySelector('[role="progressbar"]')?.hasAttribute('aria-valuenow')).toBe(false);
  expect(text()).toContain('The driver does not permit this reading here.');
  expect(text()).toContain('Not measurable on this slice.');
});

test('near the cap it says so in words, and a simulated GPU is called so', async () => {
  server.answer = json(RECEIPT);
  const full = message(1, { memory_used_mib: 23000 }, { simulated: true });
  server.greet = (socket) => socket.send(JSON.stringify(full));
  show();
  await until('figures', () => figures().length === 2);

  expect(figures()[0]).toBe('⚠ 22.5 of 23.9 GiB, near the cap');
  expect(text()).toContain('GPU memory is at 94 % of its limit');
  expect(text()).toContain('Simulated');
});

test('a server without a GPU says how to get one', async () => {
  server.greet = (socket) => socket.send(JSON.stringify(NO_GPU));
  show();
  await until('the sentence', () => text().includes('This server has no GPU.'));

  expect(figures()).toEqual([]);
});

test('a page that reaches no server asks the kernel, and says whose figures these are', () => {
  show(false);
  expect(sent).toEqual([{ type: 'pump', seconds: 30 }]);
  kernelSays(message(1, { busy_percent: 41 }));

  expect(figures()).toEqual(['6.2 of 23.9 GiB', '41 %']);
  expect(text()).toContain('From the kernel');
});

test('a server without the extension falls back on the kernel until it answers', async () => {
  show();
  await until('the wish', () => sent.length === 1);
  kernelSays(message(1, { busy_percent: 41 }));
  expect(figures()[1]).toBe('41 %');

  server.answer = json(RECEIPT);
  server.greet = (socket) => socket.send(JSON.stringify(message(9, { busy_percent: 7 })));
  await until('the server’s figures', () => figures()[1] === '7 %', 8);
  expect(sent.at(-1)).toEqual({ type: 'stop' });
  expect(text()).not.toContain('From the kernel');
}, 12_000);

test('a saved notebook’s figures are as old as their date, not fresh', () => {
  traits.sample = message(1, {}, { sampled_at: anHourAgo() });
  show(false);

  expect(el.querySelector('.aliquot-card')?.getAttribute('data-mood')).toBe('stale');
});

test('when the server is gone its last figures stay, not older ones of the kernel', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  traits.sample = message(1, { busy_percent: 1 }, { sampled_at: anHourAgo() });
  server.answer = json(RECEIPT);
  server.greet = (socket) => socket.send(JSON.stringify(message(9, { busy_percent: 70 })));
  show();
  await until('the server’s figures', () => figures()[1] === '70 %');
  vi.advanceTimersByTime(20_000);
  server.greet = null;
  server.answer = (_, response) => response.destroy();
  server.sockets[0]!.terminate();
  await until('the fault', () => text().includes('connection to the server is lost'));

  expect(figures()[1]).toBe('70 %');
  expect(text()).toContain('Stale, 20 s ago');
});

test('what the server says is text, never HTML', async () => {
  server.answer = json(RECEIPT);
  const hostile = message(1, { name: '<img src=x onerror=alert(1)>' });
  server.greet = (socket) => socket.send(JSON.stringify(hostile));
  show();
  await until('figures', () => figures().length === 2);

  expect(el.querySelector('img')).toBeNull();
  expect(text()).toContain('<img src=x');
});

test('it speaks Korean when asked', async () => {
  traits.language = 'ko';
  server.answer = json(RECEIPT);
  server.greet = (socket) => socket.send(JSON.stringify(message(1)));
  show();
  await until('figures', () => figures().length === 2);

  expect(figures()[0]).toBe('23.9 GiB 중 6.2 GiB');
  expect(server.requests[0]?.url).toContain('lang=ko');
});

test('destroyed, it leaves no listener, no wish and no connection', async () => {
  let closed = 0;
  server.answer = json(RECEIPT);
  server.greet = (socket) => {
    socket.on('close', () => (closed += 1));
    socket.send(JSON.stringify(message(1)));
  };
  show();
  await until('figures', () => figures().length === 2);
  destroy!();
  destroy = null;
  await until('the close', () => closed === 1);

  expect(heard.size).toBe(0);
  expect(el.childElementCount).toBe(0);
});
