/*
 * Status item: one line for all of a server's pieces, and a click away the details.
 *
 * The text changes every second and is no live region. A change of state (near the cap,
 * figures no longer coming) is announced once, politely, by a region of its own.
 */

import { element, say } from '../shared/dom';
import { NOTHING_KNOWN, watch, type Knowledge } from '../shared/line';
import { CapAlarm, summary, type Mood } from '../shared/summary';
import type { Translate } from '../shared/words';
import type { Popup } from './popup';
import { STATUS_STYLE } from './statusStyle';

export interface StatusOptions {
  readonly base: string;
  readonly lang: string;
  readonly t: Translate;
  /** Show a notification. */
  readonly warn: (sentence: string) => void;
}

const SIGNS: Readonly<Partial<Record<Mood, string>>> = { near_cap: '⚠', stale: '◷' };
const ANNOUNCED: ReadonlySet<Mood> = new Set(['near_cap', 'stale', 'unknown']);

export class StatusItem {
  readonly node: HTMLElement;
  private readonly sign = element('span', 'aliquot-status-sign', { 'aria-hidden': 'true' });
  private readonly text = element('span', 'aliquot-status-text');
  private readonly mark = element('span', 'aliquot-status-mark');
  private readonly news = element('span', 'aliquot-status-news', { role: 'status' });
  private readonly button: HTMLButtonElement;
  private readonly alarm = new CapAlarm();
  private readonly stop: () => void;
  private known: Knowledge = NOTHING_KNOWN;
  private popup: Popup | null = null;
  private mood: Mood = 'waiting';

  constructor(private readonly options: StatusOptions) {
    this.button = element(
      'button',
      'aliquot-status-button',
      { type: 'button', 'aria-haspopup': 'dialog', 'aria-expanded': 'false' },
      this.sign,
      this.text,
      this.mark
    );
    this.button.addEventListener('click', () => this.toggle());
    this.node = element(
      'div',
      'aliquot-status',
      {},
      element('style', '', {}, STATUS_STYLE),
      this.button,
      this.news
    );
    this.stop = watch(options.base, options.lang, (known) => this.show(known));
  }

  dispose(): void {
    this.stop();
    this.popup?.close();
  }

  showDetails(): void {
    if (this.popup === null) {
      void this.open();
    } else {
      this.popup.focus();
    }
  }

  private show(known: Knowledge): void {
    const { t, warn } = this.options;
    this.known = known;
    const told = summary(known, performance.now(), t);
    this.node.dataset['mood'] = told.mood;
    say(this.sign, SIGNS[told.mood] ?? '');
    say(this.text, told.text);
    say(this.mark, told.simulated ? t('simulated') : '');
    this.button.title = told.reason ?? t('Show the details');
    if (told.mood !== this.mood) {
      this.mood = told.mood;
      this.news.textContent = ANNOUNCED.has(told.mood) ? (told.reason ?? told.text) : '';
    }
    if (told.mood === 'live' || told.mood === 'near_cap') {
      const sentence = this.alarm.heard(known.usage?.devices ?? [], t);
      if (sentence !== null) {
        warn(sentence);
      }
    }
    this.popup?.show(known);
  }

  private toggle(): void {
    if (this.popup === null) {
      void this.open();
    } else {
      this.popup.close();
    }
  }

  private async open(): Promise<void> {
    // Loaded at the first click: who only glances at the status bar does not pay for it.
    const { Popup } = await import('./popup');
    if (this.popup !== null || !this.node.isConnected) {
      return;
    }
    const { base, lang, t } = this.options;
    this.popup = new Popup({
      anchor: this.button,
      base,
      lang,
      t,
      closed: () => {
        this.popup = null;
        this.button.setAttribute('aria-expanded', 'false');
      }
    });
    this.button.setAttribute('aria-expanded', 'true');
    this.popup.show(this.known);
  }
}
