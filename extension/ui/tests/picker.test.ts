import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { Picker, SUMMARY_AFTER_MS } from '../src/picker/picker';
import { memoryText, parseAmount, rangeOf, readRuns, runFor } from '../src/picker/runs';
import { loopback, pauseFor, until, type Loopback } from './loopback';

const RUNS = {
  blocks: [
    { from: 1, to: 40, state: 'now', verdict: 'Starts now', detail: '', memory_text_per_block_mib: 800 },
    {
      from: 41,
      to: 100,
      state: 'no',
      verdict: 'Not possible',
      detail: 'group vision has 40 blocks free',
      memory_text_per_block_mib: 800
    },
    { from: 101, to: 310, state: 'later', verdict: 'Not now', detail: '', memory_text_per_block_mib: 800 }
  ]
};

function card(share: string, state: string, verdict: string, rest = ''): string {
  return `<label class="aliquot-card" data-share="${share}" data-state="${state}">
    <input type="radio" name="share" value="${share}" aria-labelledby="name-1">
    <span class="aliquot-name" id="name-1">${share}</span>
    <span class="aliquot-facts">20 GiB</span>${rest}
    <p class="aliquot-verdict">${verdict}</p></label>`;
}

interface Said {
  readonly ten?: [string, string];
  readonly more?: string;
  readonly runs?: object;
  readonly notice?: string;
  readonly seen?: string;
}

function pageOf({ ten = ['now', 'Starts now'], more = '', runs = RUNS, notice = '', seen = 'a' }: Said) {
  return `<!doctype html><html lang="en"><body>
  <form id="spawn_form" action="/hub/spawn/ada?_xsrf=form-token" method="post">
    <div id="aliquot-picker" data-refresh-seconds="2" data-read-at="2026-11-23T14:02:00Z">
      <p data-live="notice">${notice}</p>
      <select name="group"><option>vision</option><option>nlp</option></select>
      <input type="hidden" name="seen" value="${seen}">
      ${card('10 blocks', ...ten)}
      ${card('100 blocks', 'no', 'Not possible: the group has 40 free.')}
      ${more}
      ${card('custom', 'now', '', `<span class="aliquot-custom-fields">
        <input name="amount" type="text" inputmode="decimal" value="30">
        <select name="unit"><option value="blocks">blocks</option><option value="gb">GB</option>
          <option value="gpus">GPUs</option></select></span>`)}
      <p id="aliquot-summary" role="status"></p>
      <script type="application/json" id="aliquot-runs">${JSON.stringify(runs)}</script>
      <script type="application/json" id="aliquot-strings">{"verb_now": "Start it"}</script>
      <button type="submit" name="instead" value="share=10+blocks">Start 10 blocks</button>
    </div>
    <div class="feedback-container"><button type="submit" id="go">Start</button></div>
  </form></body></html>`;
}

let server: Loopback;
let said: Said;
let picker: Picker | null;

function find<T extends HTMLElement = HTMLElement>(selector: string): T {
  const found = document.querySelector<T>(selector);
  expect(found, selector).not.toBeNull();
  return found!;
}

function open(query = ''): void {
  const { jsdom } = globalThis as unknown as { jsdom: { reconfigure(to: { url: string }): void } };
  jsdom.reconfigure({ url: `${server.base.replace('/user/ada/', '/hub/spawn/ada')}${query}` });
  const parsed = new DOMParser().parseFromString(pageOf(said), 'text/html');
  document.body.replaceChildren(...parsed.body.childNodes);
  picker = new Picker(find('#aliquot-picker'));
}

function choose(share: string): void {
  const radio = find<HTMLInputElement>(`input[name="share"][value="${share}"]`);
  radio.checked = true;
  radio.dispatchEvent(new Event('change', { bubbles: true }));
}

function type(amount: string): void {
  const field = find<HTMLInputElement>('input[name="amount"]');
  field.value = amount;
  field.dispatchEvent(new Event('input', { bubbles: true }));
}

function setUnit(unit: string): void {
  const field = find<HTMLSelectElement>('select[name="unit"]');
  field.value = unit;
  field.dispatchEvent(new Event('change', { bubbles: true }));
}

const verdict = (share: string) => find(`[data-share="${share}"] .aliquot-verdict`).textContent;
const state = (share: string) => find(`[data-share="${share}"]`).dataset['state'];

beforeEach(async () => {
  server = await loopback();
  server.answer = (_, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end(pageOf(said));
  };
  said = {};
  picker = null;
});

afterEach(async () => {
  picker?.close();
  vi.useRealTimers();
  document.body.replaceChildren();
  await server.close();
});

describe('runs', () => {
  const runs = readRuns(JSON.stringify(RUNS));

  test('each count from 1 to 310 has the verdict of its run', () => {
    for (let blocks = 1; blocks <= 310; blocks += 1) {
      const expected = blocks <= 40 ? 'Starts now' : blocks <= 100 ? 'Not possible' : 'Not now';
      expect(runFor(runs, 'blocks', blocks)?.verdict, `${blocks} blocks`).toBe(expected);
    }
  });

  test('3.1 GPUs are 310 blocks, exactly', () => {
    expect(runFor(runs, 'gpus', 3.1)?.verdict).toBe('Not now');
    expect(runFor(runs, 'gpus', 3.11)).toBeNull();
    expect(rangeOf(runs, 'gpus')).toEqual({ from: 0.01, to: 3.1, step: 0.01 });
  });

  test('GB are the blocks that hold them', () => {
    // 40 blocks of 800 MiB are 33.55 GB.
    expect(runFor(runs, 'gb', 33)?.verdict).toBe('Starts now');
    expect(runFor(runs, 'gb', 34)?.verdict).toBe('Not possible');
    expect(memoryText(runs, 'blocks', 30)).toBe('23.4');
  });

  test('outside and between runs there is no verdict', () => {
    expect(runFor(runs, 'blocks', 0)).toBeNull();
    expect(runFor(runs, 'blocks', 311)).toBeNull();
    expect(runFor(runs, 'gpus', 0.405)).toBeNull();
  });

  test.each(['', '-1', '1e9', 'NaN', '0x10', '1.2.3', '99999999999999', '１０'])(
    'the amount %j is none',
    (typed) => expect(parseAmount(typed)).toBeNull()
  );

  test('a comma is a decimal point', () => {
    expect(parseAmount(' 3,1 ')).toBe(3.1);
  });

  test.each([null, '', 'nonsense', '[]', '{"blocks": 7}', '{"blocks": [null, {"from": 1}]}'])(
    'runs that are %j throw nothing',
    (json) => expect(runFor(readRuns(json), 'blocks', 5)).toBeNull()
  );
});

describe('the custom card', () => {
  test('an amount is judged while it is written, and choosing it needs no extra click', () => {
    open();
    type('41');

    expect(find<HTMLInputElement>('input[value="custom"]').checked).toBe(true);
    expect(state('custom')).toBe('no');
    expect(verdict('custom')).toBe('32.0 GiB · Not possible · group vision has 40 blocks free');
    type('40');
    expect(state('custom')).toBe('now');
  });

  test('slider and number are one value, and the slider says it in words', () => {
    open();
    const slider = find<HTMLInputElement>('.aliquot-slider');
    expect([slider.min, slider.max, slider.value, slider.name]).toEqual(['1', '310', '30', '']);
    slider.value = '25';
    slider.dispatchEvent(new Event('input', { bubbles: true }));

    expect(find<HTMLInputElement>('input[name="amount"]').value).toBe('25');
    expect(slider.getAttribute('aria-valuetext')).toBe('25 blocks, 19.5 GiB, Starts now');
  });

  test('nonsense is marked as such, with what would be right', () => {
    open();
    type('0');
    expect(find('input[name="amount"]').getAttribute('aria-invalid')).toBe('true');
    expect(verdict('custom')).toBe('Write a number from 1 to 310.');
    type('2.5');
    expect(verdict('custom')).toBe('Write a whole number of blocks.');
  });

  test('a unit has its own range', () => {
    open();
    setUnit('gpus');
    type('3.1');

    expect(find<HTMLInputElement>('.aliquot-slider').max).toBe('3.1');
    expect(verdict('custom')).toBe('242.2 GiB · Not now');
  });
});

describe('the summary and the button', () => {
  test('the summary is told once, half a second after the last change', () => {
    vi.useFakeTimers();
    open();
    choose('10 blocks');
    vi.advanceTimersByTime(SUMMARY_AFTER_MS - 50);
    choose('100 blocks');
    vi.advanceTimersByTime(SUMMARY_AFTER_MS - 50);
    expect(find('#aliquot-summary').textContent).toBe('');
    vi.advanceTimersByTime(100);
    expect(find('#aliquot-summary').textContent).toBe(
      '100 blocks: Not possible: the group has 40 free.'
    );
  });

  test('the verb is the verdict, in the page’s words', () => {
    open();
    choose('10 blocks');
    expect(find('#go').textContent).toBe('Start it');
    choose('100 blocks');
    expect(find('#go').textContent).toBe('Choose another size to start');
    expect(find('#go').getAttribute('aria-disabled')).toBe('true');
    expect(find<HTMLButtonElement>('#go').disabled).toBe(false);
    expect(find('button[name="instead"]').textContent).toBe('Start 10 blocks');
  });

  test('pressing it at a “no” sends nothing and says why', async () => {
    open();
    let submitted = 0;
    find('#spawn_form').addEventListener('submit', (event) => {
      submitted += 1;
      event.preventDefault();
    });
    choose('100 blocks');
    find('#go').click();
    await until('the reason', () => find('#aliquot-summary').textContent!.includes('40 free'));
    expect(submitted).toBe(0);
    find('button[name="instead"]').click();
    expect(submitted).toBe(1);
    choose('10 blocks');
    find('#go').click();
    expect(submitted).toBe(2);
  });
});

describe('the open page', () => {
  test('verdicts are renewed, choices, typing and focus are not touched', async () => {
    open('?share=100+blocks');
    choose('10 blocks');
    const field = find<HTMLInputElement>('input[name="amount"]');
    field.focus();
    said = { ten: ['no', 'Not now: 4 blocks free'], notice: 'One GPU is away', seen: 'b' };
    await until('the renewed verdict', () => verdict('10 blocks') === 'Not now: 4 blocks free');

    expect(state('10 blocks')).toBe('no');
    expect(find('[data-live="notice"]').textContent).toBe('One GPU is away');
    expect(find<HTMLInputElement>('input[name="seen"]').value).toBe('b');
    expect(find<HTMLInputElement>('input[value="10 blocks"]').checked).toBe(true);
    expect(field.value).toBe('30');
    expect(document.activeElement).toBe(field);
    expect(find<HTMLFormElement>('#spawn_form').getAttribute('action')).toBe(
      '/hub/spawn/ada?_xsrf=form-token'
    );
  });

  test('it asks without the query string, with the token and what is considered', async () => {
    open('?share=100+blocks');
    await until('a question', () => server.requests.length > 0);

    const { url, headers } = server.requests[0]!;
    expect(url).toBe('/hub/spawn/ada');
    expect(headers['x-xsrftoken']).toBe('form-token');
    expect(headers['x-aliquot-consider']).toBe('group=vision');
  });

  test('another group is asked for at once', async () => {
    open();
    const group = find<HTMLSelectElement>('select[name="group"]');
    group.value = 'nlp';
    group.dispatchEvent(new Event('change', { bubbles: true }));
    expect(find('#aliquot-picker').getAttribute('aria-busy')).toBe('true');
    await until('a question', () => server.requests.length > 0, 1);

    expect(server.requests[0]!.headers['x-aliquot-consider']).toBe('group=nlp');
    await until('the answer', () => !find('#aliquot-picker').hasAttribute('aria-busy'));
  });

  test('new runs judge a custom amount anew', async () => {
    open();
    type('30');
    said = { runs: { blocks: [{ from: 1, to: 310, state: 'no', verdict: 'Paused' }] } };
    await until('the new verdict', () => verdict('custom') === 'Paused');

    expect(state('custom')).toBe('no');
  });

  test('a size that appears is shown unchosen, one that goes is a “no”', async () => {
    said = { more: card('1g.10gb', 'now', 'Starts now') };
    open();
    choose('1g.10gb');
    said = { more: card('2g.20gb', 'now', 'Starts now') };
    await until('the new card', () => document.querySelector('[data-share="2g.20gb"]') !== null);

    const radio = find<HTMLInputElement>('input[value="2g.20gb"]');
    const name = find('[data-share="2g.20gb"] .aliquot-name');
    expect(radio.checked).toBe(false);
    expect(radio.getAttribute('aria-labelledby')).toBe(name.id);
    expect(document.querySelectorAll(`#${name.id}`)).toHaveLength(1);
    expect(state('1g.10gb')).toBe('no');
    expect(verdict('1g.10gb')).toBe('Not offered any more');
    expect(find<HTMLInputElement>('input[value="1g.10gb"]').checked).toBe(true);
  });

  test('when the form is no longer there, it says so with a link', async () => {
    open();
    server.answer = (_, response) => response.writeHead(302, { Location: '/user/ada/' }).end();
    await until('the words', () => find('#aliquot-as-of').textContent!.includes('out of date'));

    expect(find('#aliquot-as-of a').getAttribute('href')).toBe('/hub/spawn/ada');
  });

  test('when the hub does not answer, the verdicts grow old and the button asks the server', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'performance'] });
    open();
    server.answer = (_, response) => response.writeHead(503).end();
    choose('100 blocks');
    expect(find('#aliquot-as-of').textContent).toMatch(/^As of \d\d:\d\d$/);
    await vi.advanceTimersByTimeAsync(31_000);

    expect(find('#aliquot-as-of').textContent).toMatch(/may have changed$/);
    expect(find('#go').hasAttribute('aria-disabled')).toBe(false);
    expect(verdict('10 blocks')).toBe('Starts now');
  });

  test('a hidden page asks nothing', async () => {
    open();
    Object.defineProperty(document, 'hidden', { configurable: true, value: true });
    document.dispatchEvent(new Event('visibilitychange'));
    await pauseFor(2300);
    expect(server.requests).toHaveLength(0);
    Object.defineProperty(document, 'hidden', { configurable: true, value: false });
    document.dispatchEvent(new Event('visibilitychange'));
    await until('a question', () => server.requests.length === 1);
  });
});
