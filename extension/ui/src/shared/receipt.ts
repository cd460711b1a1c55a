/*
 * The receipt's line: what was seen inside the server of what the lease promises.
 *
 * The check runs once, some seconds after the server's start; until it has a verdict it is
 * asked for again, then left alone.
 */

import { element, say } from './dom';
import { heldBy } from './holding';
import { readReceipt, type Receipt } from './sample';
import { getJson } from './server';
import type { Translate } from './words';

const ASK_AGAIN_AFTER_SECONDS = [3, 10, 30, 60];

const VERDICTS = {
  verified: { sign: '✓', words: 'Verified' },
  mismatch: { sign: '✗', words: 'Mismatch' },
  not_verifiable: { sign: '?', words: 'Not verifiable' }
} as const;

/** Ask until there is a firm verdict or no hope; the answer stops it. */
export function askReceipt(
  base: string,
  lang: string,
  tell: (receipt: Receipt) => void
): () => void {
  let timer: number | undefined;
  let stopped = false;
  const ask = async (round: number): Promise<void> => {
    let settled = false;
    try {
      const receipt = readReceipt(await getJson(base, 'receipt', { lang }));
      if (stopped) {
        return;
      }
      settled = receipt.verdict !== 'not_verifiable';
      tell(receipt);
    } catch {
      // The figures' own line says what is wrong with the server; here "Checking…" stays.
    }
    const wait = ASK_AGAIN_AFTER_SECONDS[round];
    if (!settled && !stopped && wait !== undefined) {
      timer = window.setTimeout(() => void ask(round + 1), wait * 1000);
    }
  };
  void ask(0);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

/** A disclosure: the verdict, and behind it every check with what was expected and seen. */
export function receiptView(t: Translate): {
  readonly node: HTMLElement;
  show(receipt: Receipt): void;
} {
  const verdict = element('span', 'aliquot-receipt-verdict', {}, t('Checking…'));
  const checks = element('ul', 'aliquot-receipt-checks');
  const reason = element('p', 'aliquot-note');
  reason.hidden = true;
  const node = element(
    'details',
    'aliquot-receipt',
    {},
    element('summary', '', {}, `${t('Binding receipt')}: `, verdict),
    reason,
    checks
  );
  return {
    node,
    show(receipt) {
      const { sign, words } = VERDICTS[receipt.verdict];
      node.dataset['verdict'] = receipt.verdict;
      say(verdict, `${sign} ${t(words)}`);
      say(reason, receipt.reason ?? '');
      checks.replaceChildren(
        ...receipt.checks.map((check) => {
          const sign = { pass: '✓', fail: '✗', unknown: '?' }[check.result];
          const { expected, seen } = check;
          // Beside a limit: who is to hold it. That a device is seen is no limit.
          const held = check.enforced_by === null ? null : heldBy(check.enforced_by, t);
          const limit = held === null ? expected : `${expected}, ${held}`;
          const figures =
            expected === seen
              ? t('{seen}, as expected', { seen })
              : t('expected {expected}, seen {seen}', { expected: limit, seen });
          const line = element('li', '', { 'data-result': check.result });
          line.append(`${sign} ${check.what}: ${figures}. ${check.reason ?? ''}`.trim());
          return line;
        })
      );
    }
  };
}
