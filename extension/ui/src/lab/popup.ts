/*
 * Popup: the card beside the status item.
 *
 * A dialog that does not block the page: focus moves in when it opens and back when it
 * closes; Escape, a click elsewhere and its button close it. Ours rather than the status
 * bar's own, because Notebook 7 has no status bar.
 */

import { card, type Card } from '../shared/card';
import { element } from '../shared/dom';
import type { Knowledge } from '../shared/line';
import { askReceipt } from '../shared/receipt';
import type { Translate } from '../shared/words';

export interface PopupOptions {
  readonly anchor: HTMLElement;
  readonly base: string;
  readonly lang: string;
  readonly t: Translate;
  readonly closed: () => void;
}

const GAP_PIXELS = 4;

export class Popup {
  private readonly card: Card;
  private readonly node: HTMLElement;
  private readonly close_: HTMLButtonElement;
  private stopReceipt: (() => void) | null = null;
  private readonly onPointer = (event: Event) => {
    const target = event.target as Node;
    if (!this.node.contains(target) && !this.options.anchor.contains(target)) {
      this.close(false);
    }
  };
  private readonly onKey = (event: KeyboardEvent) => {
    if (event.key === 'Escape') {
      event.stopPropagation();
      this.close();
    }
  };
  private readonly onResize = () => this.place();

  constructor(private readonly options: PopupOptions) {
    const { t } = options;
    this.card = card(t);
    this.close_ = element(
      'button',
      'aliquot-popup-close',
      { type: 'button', 'aria-label': t('Close'), title: t('Close') },
      '✕'
    );
    this.close_.addEventListener('click', () => this.close());
    this.node = element(
      'div',
      'aliquot-popup',
      { role: 'dialog', 'aria-label': t('GPU usage') },
      this.card.node,
      this.close_
    );
    document.body.append(this.node);
    document.addEventListener('pointerdown', this.onPointer, true);
    window.addEventListener('resize', this.onResize);
    this.node.addEventListener('keydown', this.onKey);
    this.focus();
  }

  focus(): void {
    this.close_.focus();
  }

  show(known: Knowledge): void {
    this.card.show(known);
    if (this.stopReceipt === null && known.usage?.lease) {
      const { base, lang } = this.options;
      this.stopReceipt = askReceipt(base, lang, (receipt) => {
        this.card.showReceipt(receipt);
        this.place();
      });
    }
    this.place();
  }

  /** `back` returns the focus to where it came from; a click elsewhere has chosen its own. */
  close(back = true): void {
    this.stopReceipt?.();
    document.removeEventListener('pointerdown', this.onPointer, true);
    window.removeEventListener('resize', this.onResize);
    this.node.remove();
    this.options.closed();
    if (back) {
      this.options.anchor.focus();
    }
  }

  /** Above the anchor where it stands in the lower half of the window, else below. */
  private place(): void {
    const anchor = this.options.anchor.getBoundingClientRect();
    const own = this.node.getBoundingClientRect();
    const left = Math.min(anchor.left, window.innerWidth - own.width - GAP_PIXELS);
    const above = anchor.top > window.innerHeight / 2;
    this.node.style.left = `${Math.max(left, GAP_PIXELS)}px`;
    this.node.style.top = above ? 'auto' : `${anchor.bottom + GAP_PIXELS}px`;
    this.node.style.bottom = above ? `${window.innerHeight - anchor.top + GAP_PIXELS}px` : 'auto';
    const room = above ? anchor.top : window.innerHeight - anchor.bottom;
    this.node.style.maxHeight = `${Math.max(room - 2 * GAP_PIXELS, 120)}px`;
  }
}
