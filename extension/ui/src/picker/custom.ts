/*
 * The custom card: a number, its unit, a slider bound to both, and an instant verdict.
 *
 * The number field is the truth and the one that is sent; the slider has no name.
 */

import { element } from '../shared/dom';
import {
  memoryText,
  parseAmount,
  rangeOf,
  readRuns,
  runFor,
  type Runs,
  type State,
  type Unit
} from './runs';
import type { Say } from './words';

export interface CustomVerdict {
  readonly state: State;
  readonly size: string;
  readonly text: string;
}

export class CustomCard {
  private runs: Runs;
  private readonly slider: HTMLInputElement;

  private constructor(
    private readonly card: HTMLElement,
    private readonly radio: HTMLInputElement,
    private readonly amount: HTMLInputElement,
    private readonly unit: HTMLSelectElement,
    private readonly verdict: HTMLElement,
    private readonly say: Say,
    private readonly changed: () => void
  ) {
    this.runs = readRuns(document.getElementById('aliquot-runs')?.textContent);
    this.slider = element('input', 'aliquot-slider form-range', {
      type: 'range',
      'aria-label': say('slider')
    });
    // No name: what is sent is the number that is read.
    (amount.closest('.aliquot-custom-fields') ?? amount.parentElement ?? card).append(this.slider);
    this.slider.addEventListener('input', () => {
      amount.value = tidy(Number(this.slider.value));
      this.edited();
    });
    amount.addEventListener('input', () => this.edited());
    unit.addEventListener('change', () => this.edited());
    this.update();
  }

  /** The card of the page, or null if the page has none. */
  static find(root: HTMLElement, say: Say, changed: () => void): CustomCard | null {
    const radio = root.querySelector<HTMLInputElement>('input[name="share"][value="custom"]');
    const amount = root.querySelector<HTMLInputElement>('input[name="amount"]');
    const unit = root.querySelector<HTMLSelectElement>('select[name="unit"]');
    const card = radio?.closest<HTMLElement>('.aliquot-card') ?? null;
    const verdict = card?.querySelector<HTMLElement>('.aliquot-verdict') ?? null;
    return radio && amount && unit && card && verdict
      ? new CustomCard(card, radio, amount, unit, verdict, say, changed)
      : null;
  }

  owns(card: Element): boolean {
    return card === this.card;
  }

  replaceRuns(json: string | null | undefined): void {
    this.runs = readRuns(json);
    this.update();
  }

  judged(): CustomVerdict {
    const unit = this.unit.value as Unit;
    const amount = parseAmount(this.amount.value);
    const range = rangeOf(this.runs, unit);
    const size = `${this.amount.value.trim()} ${this.unitName()}`;
    if (unit === 'blocks' && amount !== null && !Number.isInteger(amount)) {
      return { state: 'no', size, text: this.say('custom_whole') };
    }
    const run = amount === null ? null : runFor(this.runs, unit, amount);
    if (amount !== null && run !== null) {
      const memory = memoryText(this.runs, unit, amount);
      const told = [
        memory === null ? '' : this.say('memory', { memory }),
        run.verdict,
        run.detail
      ].filter(Boolean);
      return { state: run.state, size, text: told.join(' · ') };
    }
    if (range === null) {
      // Nothing was sent for this unit: the server judges when the form is sent.
      return { state: amount === null ? 'no' : 'later', size, text: '' };
    }
    const text = this.say('custom_range', { from: tidy(range.from), to: tidy(range.to) });
    return { state: 'no', size, text };
  }

  private unitName(): string {
    return this.unit.selectedOptions[0]?.textContent?.trim() ?? this.unit.value;
  }

  private edited(): void {
    // Who writes an amount means it.
    this.radio.checked = true;
    this.update();
    this.changed();
  }

  private update(): void {
    const unit = this.unit.value as Unit;
    const range = rangeOf(this.runs, unit);
    const amount = parseAmount(this.amount.value);
    const judged = this.judged();
    this.card.dataset['state'] = judged.state;
    if (this.verdict.textContent !== judged.text) {
      this.verdict.textContent = judged.text;
    }
    const outside = amount === null || (range !== null && (amount < range.from || amount > range.to));
    this.amount.setAttribute('aria-invalid', String(outside && this.amount.value !== ''));
    this.slider.hidden = range === null;
    if (range === null) {
      return;
    }
    this.slider.min = String(range.from);
    this.slider.max = String(range.to);
    this.slider.step = String(range.step);
    if (amount !== null) {
      this.slider.value = String(amount);
    }
    const memory = amount === null ? null : memoryText(this.runs, unit, amount);
    const verdict =
      (amount === null ? null : runFor(this.runs, unit, amount))?.verdict ?? judged.text;
    const values = { amount: this.amount.value.trim(), unit: this.unitName(), verdict };
    this.slider.setAttribute(
      'aria-valuetext',
      memory === null
        ? this.say('slider_text_short', values)
        : this.say('slider_text', { ...values, memory })
    );
  }
}

/** A number without a computer's trailing digits. */
function tidy(value: number): string {
  return String(Math.round(value * 100) / 100);
}
