/*
 * The script's own sentences. The page sends them in the reader's language, as JSON in
 * `#aliquot-strings`; English stands in for one that it does not send.
 */

import { fill, type Values } from '../shared/words';

export const ENGLISH = {
  as_of: 'As of {time}',
  as_of_old: 'As of {time}, may have changed',
  checking: 'Checking…',
  gone: 'This page is out of date: a server is starting or running already, or you were signed out.',
  gone_link: 'Go on',
  not_offered: 'Not offered any more',
  slider: 'Amount',
  slider_text: '{amount} {unit}, {memory} GiB, {verdict}',
  slider_text_short: '{amount} {unit}, {verdict}',
  custom_range: 'Write a number from {from} to {to}.',
  custom_whole: 'Write a whole number of blocks.',
  summary: '{size}: {verdict}',
  memory: '{memory} GiB',
  verb_now: 'Start',
  verb_later: 'Start',
  verb_approval: 'Start',
  verb_no: 'Choose another size to start'
} as const;

export type Word = keyof typeof ENGLISH;
export type Say = (word: Word, values?: Values) => string;

export function wordsOf(page: Document): Say {
  let sent: Record<string, unknown> = {};
  try {
    const read: unknown = JSON.parse(page.getElementById('aliquot-strings')?.textContent ?? '{}');
    sent = typeof read === 'object' && read !== null ? (read as Record<string, unknown>) : {};
  } catch {
    // English stands in.
  }
  return (word, values) => {
    const sentence = sent[word];
    return fill(typeof sentence === 'string' ? sentence : ENGLISH[word], values);
  };
}
