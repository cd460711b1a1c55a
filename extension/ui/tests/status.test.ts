import { afterEach, beforeEach, expect, test } from 'vitest';

import { StatusItem } from '../src/lab/statusItem';
import { translator } from '../src/shared/words';
import { json, loopback, until, type Loopback } from './loopback';
import { message, NO_GPU } from './messages';

let server: Loopback;
let item: StatusItem | null;
let warnings: string[];

beforeEach(async () => {
  server = await loopback();
  server.answer = json({ version: 1, verdict: 'verified', checked_at: null, checks: [] });
  item = null;
  warnings = [];
});

afterEach(async () => {
  item?.dispose();
  document.body.replaceChildren();
  await server.close();
});

async function show(first: object, language = 'en'): Promise<void> {
  server.greet = (socket) => socket.send(JSON.stringify(first));
  item = new StatusItem({
    base: server.base,
    lang: language,
    t: translator(language),
    warn: (sentence) => warnings.push(sentence)
  });
  document.body.append(item.node);
  await until('the first tick', () => item!.node.dataset['mood'] !== 'waiting');
}

async function tick(next: object): Promise<void> {
  const before = text('.aliquot-status-text');
  server.sockets[0]!.send(JSON.stringify(next));
  await until('a tick', () => text('.aliquot-status-text') !== before);
}

const text = (selector: string) => document.querySelector(selector)?.textContent ?? null;
const full = (sequence: number, used: number) =>
  message(sequence, { memory_used_mib: used, memory_limit_mib: 10240 });

test('it shows the line, and a tick is announced to nobody', async () => {
  await show(message(1, { busy_scope: 'share' }));
  expect(text('.aliquot-status-text')).toBe('GPU 6.2/23.9 GiB · 24 %');
  await tick(message(2, { busy_scope: 'share', busy_percent: 31 }));

  expect(text('[role="status"]')).toBe('');
});

test('crossing the cap is announced and notified once, however many ticks follow', async () => {
  await show(full(1, 5000));
  await tick(full(2, 9400));
  const announced = text('[role="status"]');
  await tick(full(3, 9600));
  await tick(full(4, 9900));

  expect(announced).toContain('GPU memory is at 92 % of its limit');
  expect(text('[role="status"]')).toBe(announced);
  expect(warnings).toEqual([announced]);
  expect(text('.aliquot-status-sign')).toBe('⚠');
});

test('a server without a GPU and a simulated one say so', async () => {
  await show(NO_GPU);
  expect(text('.aliquot-status-text')).toBe('No GPU');
  item!.dispose();
  item!.node.remove();
  await show(message(1, {}, { simulated: true }), 'ko');

  expect(text('.aliquot-status-mark')).toBe('시뮬레이션');
});

test('the details open beside it, Escape closes them and gives the focus back', async () => {
  await show(message(1));
  const button = document.querySelector<HTMLButtonElement>('.aliquot-status-button')!;
  button.click();
  await until('the dialog', () => document.querySelector('[role="dialog"]') !== null);
  await until('the receipt', () => text('.aliquot-receipt-verdict') === '✓ Verified');

  expect(button.getAttribute('aria-expanded')).toBe('true');
  expect(document.activeElement?.getAttribute('aria-label')).toBe('Close');
  expect(text('.aliquot-figure')).toBe('6.2 of 23.9 GiB');
  document.activeElement!.dispatchEvent(
    new KeyboardEvent('keydown', { key: 'Escape', bubbles: true })
  );
  expect(document.querySelector('[role="dialog"]')).toBeNull();
  expect(document.activeElement).toBe(button);
});

test('a click elsewhere closes the details and keeps its own focus', async () => {
  await show(message(1));
  const elsewhere = document.body.appendChild(document.createElement('input'));
  item!.showDetails();
  await until('the dialog', () => document.querySelector('[role="dialog"]') !== null);
  elsewhere.dispatchEvent(new Event('pointerdown', { bubbles: true }));
  elsewhere.focus();

  expect(document.querySelector('[role="dialog"]')).toBeNull();
  expect(document.activeElement).toBe(elsewhere);
});
