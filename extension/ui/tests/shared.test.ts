import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

import { age, gib, memoryShort, percent } from '../src/shared/format';
import { busySeries, busySummary, extended, HISTORY_ROWS } from '../src/shared/history';
import { KOREAN } from '../src/shared/korean';
import { learned, NOTHING_KNOWN, type Knowledge } from '../src/shared/line';
import { readReceipt, readUsage, UnreadableAnswer, type Row } from '../src/shared/sample';
import { CapAlarm, summary } from '../src/shared/summary';
import { fill, pageLocale, translator } from '../src/shared/words';
import { message, NO_GPU } from './messages';

const en = translator('en');
const ko = translator('ko-KR');

function known(value: unknown, more: Partial<Knowledge> = {}): Knowledge {
  return { ...learned(NOTHING_KNOWN, readUsage(value), 'server'), ...more };
}

function told(value: unknown, later_ms = 0, more: Partial<Knowledge> = {}) {
  const state = known(value, more);
  return summary(state, state.received_at_ms + later_ms, en);
}

describe('numbers', () => {
  test('memory is GiB with one decimal, and an unknown is a dash, never 0', () => {
    expect(gib(9318)).toBe('9.1');
    expect(gib(20480)).toBe('20.0');
    expect(gib(null)).toBe('–');
    expect(gib(NaN)).toBe('–');
    expect(gib(0)).toBe('0.0');
  });

  test('a little memory is not shown as none', () => {
    expect(gib(3)).toBe('0.1');
  });

  test('rounding makes neither idle of busy nor full of nearly full', () => {
    expect(percent(0.2)).toBe('1');
    expect(percent(99.7)).toBe('99');
    expect(percent(100)).toBe('100');
    expect(percent(0)).toBe('0');
    expect(percent(null)).toBe('–');
  });

  test('memory without a limit says no limit', () => {
    expect(memoryShort(2048, null)).toBe('2.0 GiB');
    expect(memoryShort(null, 20480)).toBe('–/20.0 GiB');
  });

  test('ages are told in the unit that fits', () => {
    expect(age(14.2, en)).toBe('14 s ago');
    expect(age(125, en)).toBe('2 min ago');
    expect(age(7300, en)).toBe('2 h ago');
    expect(age(14.2, ko)).toBe('14초 전');
  });
});

describe('parsing', () => {
  test('a figure that is missing, a string or infinite is unknown', () => {
    const [device] = readUsage(
      message(1, { memory_used_mib: '6348', busy_percent: undefined, memory_limit_mib: null })
    ).devices;

    expect(device?.memory_used_mib).toBeNull();
    expect(device?.busy_percent).toBeNull();
    expect(device?.memory_limit_mib).toBeNull();
  });

  test.each([null, 'x', [], { version: 2 }, {}])('%j is refused', (value) => {
    expect(() => readUsage(value)).toThrow(UnreadableAnswer);
    expect(() => readReceipt(value)).toThrow(UnreadableAnswer);
  });

  test('an unknown verdict is not taken for a good one', () => {
    expect(readReceipt({ version: 1, verdict: 'super', checks: [] }).verdict).toBe('not_verifiable');
  });
});

describe('the summary', () => {
  test('one piece: memory of its limit and how busy', () => {
    const figures = { memory_used_mib: 9318, memory_limit_mib: 20480, busy_percent: 62 };
    expect(told(message(1, { ...figures, busy_scope: 'share' })))
      .toEqual({ mood: 'live', text: 'GPU 9.1/20.0 GiB · 62 %', reason: null, simulated: false });
  });

  test('several pieces: memory is their sum, busy their mean', () => {
    const { devices } = message(1) as { devices: object[] };
    const two = message(1, {}, { devices: [...devices, { ...devices[0], busy_percent: 76 }] });

    expect(told(two).text).toBe('2 GPUs 12.4/47.8 GiB · 50 % (card)');
  });

  test('a figure of the whole card is not passed off as the share’s', () => {
    expect(told(message(1)).text).toBe('GPU 6.2/23.9 GiB · 24 % (card)');
    expect(told(message(1, { memory_scope: 'card' })).text).toBe(
      'GPU 6.2/23.9 GiB · 24 % (whole card)'
    );
    expect(told(message(1, { memory_scope: 'card', busy_percent: null })).text).toBe(
      'GPU 6.2/23.9 GiB (card) · –'
    );
    expect(told(message(1, { scope: 'card', memory_scope: 'card' })).text).toBe(
      'GPU 6.2/23.9 GiB · 24 %'
    );
  });

  test('a slice whose load cannot be measured says so, and not 0 %', () => {
    const slice = message(1, { busy_percent: null, busy_reason: 'not measurable on this slice' });

    expect(told(slice)).toMatchObject({
      mood: 'live',
      text: 'GPU 6.2/23.9 GiB · –',
      reason: 'not measurable on this slice'
    });
  });

  test('90 % of the limit is near the cap, 89 % is not', () => {
    expect(told(message(1, { memory_used_mib: 900, memory_limit_mib: 1000 })).mood).toBe('near_cap');
    expect(told(message(1, { memory_used_mib: 899, memory_limit_mib: 1000 })).mood).toBe('live');
  });

  test('one full piece is near the cap although another is empty', () => {
    const { devices } = message(1) as { devices: object[] };
    const two = message(1, {}, {
      devices: [{ ...devices[0], memory_used_mib: 0 }, { ...devices[0], memory_used_mib: 24000 }]
    });

    expect(told(two).mood).toBe('near_cap');
  });

  test('figures that no longer come are stale and carry their age', () => {
    expect(told(message(1), 11_000).mood).toBe('live');
    expect(told(message(1), 20_000, { fault: 'lost' })).toMatchObject({
      mood: 'stale',
      text: 'GPU 6.2/23.9 GiB · 24 % (card) (20 s ago)',
      reason: 'The connection to the server is lost; it is tried again by itself.'
    });
  });

  test('what the server calls stale is stale at once', () => {
    const stale = message(1, {}, { state: 'stale', age_seconds: 40, state_reason: 'driver lost' });

    expect(told(stale)).toMatchObject({ mood: 'stale', reason: 'driver lost' });
  });

  test('no GPU, unavailable and nothing yet are three different things', () => {
    expect(told(NO_GPU).text).toBe('No GPU');
    expect(told(message(1, {}, { state: 'unavailable', state_reason: 'no driver' }))).toMatchObject({
      mood: 'unknown',
      text: 'GPU –',
      reason: 'no driver'
    });
    expect(summary(NOTHING_KNOWN, 0, en).mood).toBe('waiting');
  });

  test('the same in Korean', () => {
    expect(summary(known(NO_GPU), performance.now(), ko).text).toBe('GPU 없음');
  });
});

describe('the cap alarm', () => {
  const at = (used: number) =>
    readUsage(message(1, { memory_used_mib: used, memory_limit_mib: 1000 })).devices;

  test('tells once per crossing, and a swing around the mark is one crossing', () => {
    const alarm = new CapAlarm();
    const heard = [880, 900, 950, 895, 910, 840, 900].map((used) => alarm.heard(at(used), en));

    expect(heard.map((sentence) => sentence !== null)).toEqual([
      false, true, false, false, false, false, true
    ]);
    expect(heard[1]).toContain('90 % of its limit');
  });

  test('an unknown figure does not arm it again', () => {
    const alarm = new CapAlarm();
    alarm.heard(at(950), en);
    alarm.heard(readUsage(message(1, { memory_used_mib: null })).devices, en);

    expect(alarm.heard(at(950), en)).toBeNull();
  });
});

describe('history', () => {
  const row = (sequence: number, busy: number | null = 10): Row => ({
    sequence, at: '', memory_used_mib: [1], busy_percent: [busy]
  });

  test('rows that come twice are kept once, in order', () => {
    const first = extended([], readUsage(message(3, {}, { history: [row(1), row(2), row(3)] })));
    const second = extended(first, readUsage(message(4, {}, { history: [row(3), row(4)] })));

    expect(second.map((r) => r.sequence)).toEqual([1, 2, 3, 4]);
  });

  test('a tick without history adds its own figures', () => {
    const rows = extended([row(1)], readUsage(message(2, { busy_percent: 55 })));

    expect(busySeries(rows, 0)).toEqual([10, 55]);
  });

  test('a stale message adds no tick', () => {
    expect(extended([row(1)], readUsage(message(2, {}, { state: 'stale' })))).toHaveLength(1);
  });

  test('a sequence that goes backwards is a restarted server: what was before is dropped', () => {
    const rows = extended([row(100), row(101)], readUsage(message(1)));

    expect(rows.map((r) => r.sequence)).toEqual([1]);
  });

  test('five minutes are kept', () => {
    let rows: readonly Row[] = [];
    for (let tick = 1; tick <= HISTORY_ROWS + 50; tick += 1) {
      rows = extended(rows, readUsage(message(tick)));
    }

    expect(rows).toHaveLength(HISTORY_ROWS);
    expect(rows[0]?.sequence).toBe(51);
  });

  test('what could not be measured does not pull the mean down', () => {
    expect(busySummary([null, 20, null, 40])).toEqual({ mean: 30, highest: 40 });
    expect(busySummary([null, null])).toBeNull();
  });
});

describe('words', () => {
  test('every sentence that the code says has a Korean one, with the same places', () => {
    const said = new Set<string>();
    let sources = '';
    for (const folder of ['shared', 'lab', 'widget']) {
      const path = join('src', folder);
      for (const name of readdirSync(path)) {
        const source = readFileSync(join(path, name), 'utf8');
        sources += name === 'korean.ts' ? '' : source;
        for (const [, sentence] of source.matchAll(/\bt\(\s*'((?:[^'\\]|\\.)+)'/g)) {
          said.add(sentence!.replace(/\\'/g, "'"));
        }
      }
    }
    expect(said.size).toBeGreaterThan(25);
    const places = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
    for (const sentence of said) {
      expect(KOREAN, sentence).toHaveProperty([sentence]);
    }
    for (const [sentence, korean] of Object.entries(KOREAN)) {
      expect(places(korean), sentence).toEqual(places(sentence));
      expect(sources, `said by nobody: ${sentence}`).toContain(`'${sentence}'`);
    }
  });

  test('a language pack wins over our table, our table over English', () => {
    const t = translator('ko', (sentence) => (sentence === 'Memory' ? '기억' : sentence));

    expect(t('Memory')).toBe('기억');
    expect(t('Busy')).toBe('사용률');
    expect(t('Never translated {n}', { n: 1 })).toBe('Never translated 1');
  });

  test('a place without a value stays visible', () => {
    expect(fill('{used} of {limit}', { used: 1 })).toBe('1 of {limit}');
  });

  test('a Korean page is Korean, and so is a Korean reader of a page that says nothing', () => {
    const page = (lang: string) => ({ documentElement: { lang } }) as Document;
    const browser = (...languages: string[]) => ({ languages }) as unknown as Navigator;

    expect(pageLocale(page('ko'), browser('en-GB'))).toBe('ko');
    expect(pageLocale(page('en'), browser('ko-KR', 'en'))).toBe('ko');
    expect(pageLocale(page('en'), browser('en', 'ko'))).toBe('en');
  });
});
