/*
 * Card: one server's GPU pieces in detail, for the popup and the widget.
 *
 * Built once per set of pieces and then only written to, so that focus, selection and an
 * open receipt survive a tick. It is no live region: a screen reader reads it when asked,
 * not every second.
 */

import { CARD_STYLE } from './cardStyle';
import { element, say } from './dom';
import { age, gib, percent, UNKNOWN } from './format';
import { busySeries, busySummary } from './history';
import { holding } from './holding';
import { ageSeconds, type Knowledge } from './line';
import { receiptView } from './receipt';
import type { Device, Lease, Receipt, Scope } from './sample';
import { drawSparkline } from './sparkline';
import { fullness, NEAR_CAP_PERCENT, summary, type Mood } from './summary';
import type { Translate } from './words';

export interface Card {
  readonly node: HTMLElement;
  show(known: Knowledge): void;
  showReceipt(receipt: Receipt): void;
}

interface PieceView {
  readonly node: HTMLElement;
  show(device: Device, series: readonly (number | null)[]): void;
}

const SCOPES: Readonly<Record<Scope, string>> = {
  slice: 'This slice',
  share: 'This share',
  card: 'Whole card'
};

function pieceView(t: Translate): PieceView {
  const heading = element('h4', 'aliquot-piece-name');
  const bar = element('div', 'aliquot-bar-fill');
  const meter = element('div', 'aliquot-bar', { role: 'progressbar', 'aria-label': t('Memory') }, bar);
  const memory = element('span', 'aliquot-figure');
  const memoryNote = element('p', 'aliquot-note');
  const line = element('canvas', 'aliquot-sparkline', { role: 'img' });
  const busy = element('span', 'aliquot-figure');
  const trend = element('p', 'aliquot-note');
  const busyNote = element('p', 'aliquot-note');
  const node = element(
    'section',
    'aliquot-piece',
    {},
    heading,
    element('div', 'aliquot-row', {}, element('span', 'aliquot-label', {}, t('Memory')), meter, memory),
    memoryNote,
    element('div', 'aliquot-row', {}, element('span', 'aliquot-label', {}, t('Busy')), line, busy),
    trend,
    busyNote
  );
  return {
    node,
    show(device, series) {
      say(heading, [device.name, device.piece].filter(Boolean).join(' · '));
      const full = fullness(device);
      const near = full !== null && full >= NEAR_CAP_PERCENT;
      node.classList.toggle('aliquot-near-cap', near);
      bar.style.width = `${full ?? 0}%`;
      const memoryText = memoryWords(device, full, near, t);
      if (full === null) {
        // A progressbar without a value is "indeterminate": the truth about an unknown.
        meter.removeAttribute('aria-valuenow');
      } else {
        meter.setAttribute('aria-valuenow', percent(full));
      }
      meter.setAttribute('aria-valuetext', memoryText);
      say(memory, memoryText);
      const memoryUnknown = device.memory_used_mib === null;
      say(
        memoryNote,
        note(t(SCOPES[device.memory_scope]), device.memory_scope, memoryUnknown, device.memory_reason)
      );
      const busyText = device.busy_percent === null ? UNKNOWN : `${percent(device.busy_percent)} %`;
      say(busy, busyText);
      const told = busySummary(series);
      const trendText =
        told === null
          ? ''
          : t('Last 5 minutes: mean {mean} %, highest {highest} %', {
              mean: percent(told.mean),
              highest: percent(told.highest)
            });
      line.hidden = told === null;
      line.setAttribute('aria-label', trendText);
      drawSparkline(line, series);
      say(trend, trendText);
      const others = device.shared_with ?? 0;
      const shared = others > 0 ? t('shared with {count} other processes', { count: others }) : '';
      const scope = [t(SCOPES[device.busy_scope]), shared].filter(Boolean).join(', ');
      say(
        busyNote,
        note(scope, device.busy_scope, device.busy_percent === null, device.busy_reason)
      );
    }
  };
}

function memoryWords(device: Device, full: number | null, near: boolean, t: Translate): string {
  if (device.memory_used_mib === null) {
    return UNKNOWN;
  }
  const used = gib(device.memory_used_mib);
  if (device.memory_limit_mib === null || full === null) {
    return t('{used} GiB used', { used });
  }
  const words = t('{used} of {limit} GiB', { used, limit: gib(device.memory_limit_mib) });
  return near ? `⚠ ${words}, ${t('near the cap')}` : words;
}

/** What a figure belongs to, and why it is unknown or wider than the piece. */
function note(words: string, scope: Scope, unknown: boolean, reason: string | null): string {
  if (reason === null) {
    return words;
  }
  return unknown || scope === 'card' ? reason : `${words}. ${reason}`;
}

function leaseWords(lease: Lease | null, t: Translate): string {
  if (lease === null) {
    return '';
  }
  const enforced = holding(gib(lease.memory_mib), lease.enforcement, t);
  const group = lease.group === null ? '' : `${t('Group {group}', { group: lease.group })}. `;
  return `${group}${enforced}`;
}

export function card(t: Translate): Card {
  const mark = element('span', 'aliquot-mark');
  const clock = element('span', 'aliquot-clock');
  const title = element('h3', 'aliquot-title', {}, t('GPU usage'));
  const reason = element('p', 'aliquot-reason');
  const pieces = element('div', 'aliquot-pieces');
  const lease = element('p', 'aliquot-note');
  const notes = element('ul', 'aliquot-notes');
  const receipt = receiptView(t);
  receipt.node.hidden = true;
  const node = element(
    'div',
    'aliquot-card',
    {},
    element('style', '', {}, CARD_STYLE),
    element('div', 'aliquot-head', {}, title, mark, clock),
    reason,
    pieces,
    lease,
    notes,
    receipt.node
  );
  let views: PieceView[] = [];

  return {
    node,
    show(known) {
      const now = performance.now();
      const told = summary(known, now, t);
      const usage = known.usage;
      const devices = usage?.devices ?? [];
      node.dataset['mood'] = told.mood satisfies Mood;
      say(mark, told.simulated ? t('Simulated') : '');
      const seconds = ageSeconds(known, now);
      say(clock, clockWords(told.mood, seconds, t));
      const fromKernel = known.from === 'kernel' && told.mood !== 'no_gpu';
      // A live piece says its own unknowns, beside the figure that they belong to.
      const overall = told.mood === 'live' ? null : told.reason;
      say(
        reason,
        [
          overall,
          fromKernel
            ? t('From the kernel: the figures stand still while a cell keeps Python busy.')
            : null
        ]
          .filter((sentence) => sentence !== null)
          .join(' ')
      );
      if (views.length !== devices.length) {
        views = devices.map(() => pieceView(t));
        pieces.replaceChildren(...views.map((view) => view.node));
      }
      devices.forEach((device, index) =>
        views[index]?.show(device, busySeries(known.rows, index))
      );
      say(lease, leaseWords(usage?.lease ?? null, t));
      const written = usage?.lease?.notes ?? [];
      // By their words: the kernel's may be in another language than the server's after it.
      const shown = [...notes.children].map((item) => item.textContent);
      if (shown.length !== written.length || shown.some((note, at) => note !== written[at])) {
        notes.replaceChildren(...written.map((note) => element('li', '', {}, note)));
      }
      notes.hidden = written.length === 0;
      receipt.node.hidden = usage?.lease === null || usage === null || known.from === 'kernel';
    },
    showReceipt: (given) => receipt.show(given)
  };
}

function clockWords(mood: Mood, seconds: number | null, t: Translate): string {
  if (mood === 'no_gpu' || seconds === null) {
    return '';
  }
  if (mood === 'live' || mood === 'near_cap') {
    return t('Live');
  }
  return mood === 'stale' ? `${t('Stale')}, ${age(seconds, t)}` : '';
}
