/*
 * The spawn page's script. The form works without it: the server renders every verdict,
 * and judges again when the form is sent.
 *
 * With it, verdicts stay right while the page is open, a custom amount is judged while it
 * is written, and the button says what it will do.
 *
 * What it finds in the page:
 *   #aliquot-picker[data-refresh-seconds][data-read-at]   the root
 *   .aliquot-card[data-share][data-state]                 a size: radio, .aliquot-name,
 *                                                         .aliquot-facts, .aliquot-verdict;
 *                                                         data-summary, its whole sentence
 *   input[name="seen"]                                    what the page has said so far
 *   [data-live="key"]                                     any other text that is renewed
 *   #aliquot-runs, #aliquot-strings                       JSON, see runs.ts and words.ts
 *   #aliquot-summary, #aliquot-as-of                      live lines; made if missing
 */

import { element, say as write } from '../shared/dom';
import { CustomCard } from './custom';
import { askAgain, takeVerdicts } from './live';
import { stateOf, type State } from './runs';
import { wordsOf, type Say } from './words';

export const SUMMARY_AFTER_MS = 500;
export const OLD_AFTER_SECONDS = 30;
// A choice of group or model is followed at once, typing and arrow keys are let finish.
const CONSIDER_AFTER_MS = 150;

export class Picker {
  private readonly say: Say = wordsOf(document);
  private readonly form: HTMLFormElement;
  private readonly button: HTMLElement | null;
  private readonly summary: HTMLElement;
  private readonly asOf: HTMLElement;
  private readonly custom: CustomCard | null;
  private readonly refresh_ms: number;
  private readAt: Date;
  // Age is counted on this machine's steady clock: the server's may differ by minutes.
  private read_ms = performance.now();
  private gone = false;
  private summaryTimer: number | undefined;
  private refreshTimer: number | undefined;
  private asking: AbortController | null = null;
  private readonly leaving = new AbortController();

  constructor(private readonly root: HTMLElement) {
    const form = root.closest('form');
    if (form === null) {
      throw new Error('the picker stands in no form');
    }
    this.form = form;
    // The Hub's own Start, not a remedy's button inside a card.
    this.button =
      [...form.querySelectorAll<HTMLElement>('button[type="submit"], input[type="submit"]')].find(
        (button) => !root.contains(button)
      ) ?? null;
    this.summary = this.lineOf('aliquot-summary', { role: 'status' });
    this.asOf = this.lineOf('aliquot-as-of', {});
    this.refresh_ms = Math.max(Number(root.dataset['refreshSeconds']) || 10, 2) * 1000;
    this.readAt = moment(root.dataset['readAt']);
    this.custom = CustomCard.find(root, this.say, () => this.chosen());
    root.classList.add('aliquot-enhanced');

    const { signal } = this.leaving;
    form.addEventListener('change', (event) => this.changed(event), { signal });
    // Enter in a field sends the form without a press of Start: catch the sending itself, and
    // before the Hub's own listener turns Start into a spinner.
    form.addEventListener('submit', (event) => this.sent(event), { signal, capture: true });
    document.addEventListener('visibilitychange', () => this.schedule(0), { signal });
    const clock = window.setInterval(() => this.showAge(), 1000);
    signal.addEventListener('abort', () => clearInterval(clock));
    // A page restored by the Back button is as old as it looks.
    window.addEventListener('pageshow', (event) => event.persisted && this.schedule(0), { signal });
    this.showAge();
    this.showVerb();
    this.schedule(this.refresh_ms);
  }

  close(): void {
    this.stop();
    clearTimeout(this.summaryTimer);
    this.leaving.abort();
  }

  private lineOf(id: string, attributes: Record<string, string>): HTMLElement {
    const found = document.getElementById(id);
    if (found !== null) {
      return found;
    }
    const made = element('p', id, { id, ...attributes });
    this.root.append(made);
    return made;
  }

  private stop(): void {
    clearTimeout(this.refreshTimer);
    this.asking?.abort();
    this.asking = null;
  }

  private schedule(after_ms: number): void {
    clearTimeout(this.refreshTimer);
    if (!document.hidden && !this.gone) {
      this.refreshTimer = window.setTimeout(() => void this.refresh(), after_ms);
    }
  }

  private async refresh(): Promise<void> {
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    const answer = await askAgain(this.form, asking.signal);
    if (asking.signal.aborted) {
      return;
    }
    this.asking = null;
    this.root.removeAttribute('aria-busy');
    if (answer.kind === 'gone') {
      this.showGone();
      return;
    }
    if (answer.kind === 'form') {
      this.readAt = moment(answer.root.dataset['readAt']);
      this.read_ms = performance.now();
      takeVerdicts(
        this.root,
        answer.root,
        (card) => this.custom?.owns(card) ?? false,
        (card) => this.showLost(card)
      );
      const runs = answer.page.getElementById('aliquot-runs')?.textContent;
      const own = document.getElementById('aliquot-runs');
      if (own !== null && runs !== undefined) {
        own.textContent = runs;
      }
      this.custom?.replaceRuns(runs);
      this.chosen();
    }
    this.showAge();
    this.schedule(this.refresh_ms);
  }

  private changed(event: Event): void {
    const name = (event.target as HTMLInputElement).name;
    if (name === 'group' || name === 'model' || name === 'isolation') {
      // An answer for the choice before is no longer wanted.
      this.stop();
      this.root.setAttribute('aria-busy', 'true');
      this.schedule(CONSIDER_AFTER_MS);
      write(this.asOf, this.say('checking'));
    }
    this.chosen();
  }

  /** The chosen size, its state and its verdict. */
  private choice(): { state: State; text: string } | null {
    const radio = this.form.querySelector<HTMLInputElement>('input[name="share"]:checked');
    const card = radio?.closest<HTMLElement>('.aliquot-card') ?? null;
    if (radio === null || card === null) {
      return null;
    }
    if (this.custom?.owns(card)) {
      const { state, size, text } = this.custom.judged();
      return { state, text: this.say('summary', { size, verdict: text }) };
    }
    const size = textOf(card.querySelector('.aliquot-name')) || radio.value;
    const verdict = textOf(card.querySelector('.aliquot-verdict'));
    const text = card.dataset['summary'] || this.say('summary', { size, verdict });
    return { state: stateOf(card.dataset['state']), text };
  }

  private chosen(): void {
    this.showVerb();
    clearTimeout(this.summaryTimer);
    this.summaryTimer = window.setTimeout(() => {
      const choice = this.choice();
      if (choice !== null) {
        this.summary.textContent = choice.text;
      }
    }, SUMMARY_AFTER_MS);
  }

  private showVerb(): void {
    const choice = this.choice();
    if (this.button === null || choice === null) {
      return;
    }
    const verb = this.say(`verb_${choice.state}`);
    if (this.button instanceof HTMLInputElement) {
      this.button.value = verb;
    } else if (textOf(this.button) !== verb) {
      this.button.textContent = verb;
    }
    // An old "no" may have become a "yes": then the server is asked, not the page.
    if (choice.state === 'no' && !this.isOld()) {
      this.button.setAttribute('aria-disabled', 'true');
    } else {
      this.button.removeAttribute('aria-disabled');
    }
  }

  private sent(event: SubmitEvent): void {
    const instead = event.submitter?.getAttribute('name') === 'instead';
    if (instead || this.button?.getAttribute('aria-disabled') !== 'true') {
      // The form is on its way: do not renew the page under it.
      this.stop();
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
    clearTimeout(this.summaryTimer);
    const choice = this.choice();
    // The same words again are no news to a screen reader; emptied first, they are.
    this.summary.textContent = '';
    this.summaryTimer = window.setTimeout(() => {
      this.summary.textContent = choice?.text ?? '';
    }, 50);
    this.form.querySelector<HTMLElement>('input[name="share"]:checked')?.focus();
  }

  private isOld(): boolean {
    return performance.now() - this.read_ms > OLD_AFTER_SECONDS * 1000;
  }

  private showAge(): void {
    if (this.gone || this.root.getAttribute('aria-busy') === 'true') {
      return;
    }
    const lang = document.documentElement.lang || 'en';
    const time = this.readAt.toLocaleTimeString(this.root.lang || lang, {
      hour: '2-digit',
      minute: '2-digit',
      hourCycle: 'h23'
    });
    const old = this.isOld();
    write(this.asOf, this.say(old ? 'as_of_old' : 'as_of', { time }));
    if (this.asOf.classList.toggle('aliquot-old', old)) {
      this.showVerb();
    }
  }

  private showLost(card: HTMLElement): void {
    card.dataset['state'] = 'no';
    const verdict = card.querySelector<HTMLElement>('.aliquot-verdict');
    if (verdict !== null) {
      write(verdict, this.say('not_offered'));
    }
  }

  private showGone(): void {
    this.gone = true;
    const link = element('a', '', { href: location.pathname }, this.say('gone_link'));
    this.asOf.hidden = false;
    this.asOf.classList.add('aliquot-old');
    this.asOf.replaceChildren(`${this.say('gone')} `, link);
  }
}

function textOf(node: Element | null): string {
  return node?.textContent?.replace(/\s+/g, ' ').trim() ?? '';
}

/** When the verdicts were read; now, where the page does not say it. */
function moment(written: string | undefined): Date {
  const read = new Date(written ?? '');
  return Number.isNaN(read.getTime()) ? new Date() : read;
}
