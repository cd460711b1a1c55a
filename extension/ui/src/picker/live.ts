/*
 * Live: the page asks for itself again and takes over what has changed of the answers.
 *
 * Only verdicts move: never what was chosen or typed, never the focus, never where the
 * form is sent. The query string stays behind, because the Hub takes it for options. What
 * the reader considers (group, model, isolation) goes along as a header, so that the
 * verdicts are for that choice.
 */

import { xsrfToken } from '../shared/server';

export const CONSIDER_HEADER = 'X-Aliquot-Consider';
const CONSIDERED = ['group', 'model', 'isolation'] as const;
const RENEWED_PARTS = ['.aliquot-facts', '.aliquot-verdict'] as const;
const TIMEOUT_SECONDS = 10;

export type Page =
  | { readonly kind: 'form'; readonly root: HTMLElement; readonly page: Document }
  | { readonly kind: 'gone' }
  | { readonly kind: 'failed' };

/** The form's present group, model and isolation, as a header's value. */
export function considered(form: HTMLFormElement): string {
  const values = new URLSearchParams();
  const data = new FormData(form);
  for (const name of CONSIDERED) {
    const value = data.get(name);
    if (typeof value === 'string') {
      values.set(name, value);
    }
  }
  return values.toString();
}

function token(form: HTMLFormElement): string | null {
  const page = (globalThis as { jhdata?: { xsrf_token?: unknown } }).jhdata?.xsrf_token;
  const sent = new URL(form.action, location.href).searchParams.get('_xsrf');
  return xsrfToken(document.cookie) ?? (typeof page === 'string' && page !== '' ? page : sent);
}

export async function askAgain(form: HTMLFormElement, signal: AbortSignal): Promise<Page> {
  const xsrf = token(form);
  try {
    const response = await fetch(new URL(location.pathname, location.href).href, {
      credentials: 'same-origin',
      cache: 'no-store',
      // The Hub sends on to a server that runs already; opening it is the reader's choice.
      redirect: 'manual',
      headers: {
        Accept: 'text/html',
        [CONSIDER_HEADER]: considered(form),
        ...(xsrf === null ? {} : { 'X-XSRFToken': xsrf })
      },
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_SECONDS * 1000)])
    });
    if (response.type === 'opaqueredirect' || [301, 302, 303, 307, 308].includes(response.status)) {
      return { kind: 'gone' };
    }
    if (!response.ok) {
      return { kind: 'failed' };
    }
    const page = new DOMParser().parseFromString(await response.text(), 'text/html');
    const root = page.getElementById('aliquot-picker');
    return root === null ? { kind: 'gone' } : { kind: 'form', root, page };
  } catch {
    return { kind: 'failed' };
  }
}

/** Take over children that differ, unless the focus is among them: it would be lost. */
function takeOver(mine: Element | null, theirs: Element | null): void {
  if (mine === null || theirs === null || mine.contains(document.activeElement)) {
    return;
  }
  if (mine.innerHTML !== theirs.innerHTML) {
    mine.replaceChildren(...[...theirs.childNodes].map((node) => document.importNode(node, true)));
  }
}

/** A card from a newer page: not chosen, and with ids that no card of this page has. */
function unchosen(card: HTMLElement): HTMLElement {
  const radio = card.querySelector<HTMLInputElement>('input[name="share"]');
  if (radio !== null) {
    radio.checked = false;
  }
  const ids = new Map<string, string>();
  for (const node of card.querySelectorAll('[id]')) {
    ids.set(node.id, `${node.id}-${(added += 1)}`);
    node.id = ids.get(node.id) ?? '';
  }
  for (const name of ['aria-labelledby', 'aria-describedby', 'for']) {
    for (const node of card.querySelectorAll(`[${name}]`)) {
      const old = node.getAttribute(name) ?? '';
      const renamed = old.split(/\s+/).map((id) => ids.get(id) ?? id);
      node.setAttribute(name, renamed.join(' '));
    }
  }
  return card;
}

let added = 0;

/**
 * Write a newer page's verdicts into this one. `keep` are cards that judge themselves;
 * `lost` is called for a size that is no longer offered.
 */
export function takeVerdicts(
  root: HTMLElement,
  newer: HTMLElement,
  keep: (card: HTMLElement) => boolean,
  lost: (card: HTMLElement) => void
): void {
  const theirs = new Map(
    [...newer.querySelectorAll<HTMLElement>('.aliquot-card[data-share]')].map((card) => [
      card.dataset['share'] ?? '',
      card
    ])
  );
  let before: HTMLElement | null = null;
  const mine = new Map<string, HTMLElement>();
  for (const card of root.querySelectorAll<HTMLElement>('.aliquot-card[data-share]')) {
    mine.set(card.dataset['share'] ?? '', card);
  }
  for (const [share, card] of theirs) {
    const own = mine.get(share);
    if (own === undefined) {
      const newCard = unchosen(document.importNode(card, true));
      if (before !== null) {
        before.after(newCard);
        before = newCard;
      }
      continue;
    }
    before = own;
    if (keep(own)) {
      continue;
    }
    own.dataset['state'] = card.dataset['state'] ?? 'no';
    if (card.dataset['summary'] !== undefined) {
      own.dataset['summary'] = card.dataset['summary'];
    }
    for (const part of RENEWED_PARTS) {
      takeOver(own.querySelector(part), card.querySelector(part));
    }
    const radio = own.querySelector('input[name="share"]');
    const said = card.querySelector('input[name="share"]')?.getAttribute('aria-disabled');
    if (radio !== null) {
      said ? radio.setAttribute('aria-disabled', said) : radio.removeAttribute('aria-disabled');
    }
  }
  for (const [share, card] of mine) {
    if (!theirs.has(share) && !keep(card)) {
      lost(card);
    }
  }
  const places = new Map(
    [...newer.querySelectorAll<HTMLElement>('[data-live]')].map((it) => [it.dataset['live'], it])
  );
  for (const place of root.querySelectorAll<HTMLElement>('[data-live]')) {
    takeOver(place, places.get(place.dataset['live']) ?? null);
  }
  const seen = root.querySelector<HTMLInputElement>('input[name="seen"]');
  const newSeen = newer.querySelector<HTMLInputElement>('input[name="seen"]');
  if (seen !== null && newSeen !== null) {
    seen.value = newSeen.value;
  }
}
