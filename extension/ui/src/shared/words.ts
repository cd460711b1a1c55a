/*
 * Words: the sentences of the pages, in English and Korean.
 *
 * The English sentence is its own key, as in JupyterLab's translations: a language pack
 * that knows it wins, our Korean table comes next, English last. Numbers are put in
 * after the look-up, by name, because word order differs.
 */

import { KOREAN } from './korean';

export type Values = Readonly<Record<string, string | number>>;
export type Translate = (sentence: string, values?: Values) => string;

/** Put `values` where `{name}` stands; an unknown name stays, so that a typo is seen. */
export function fill(sentence: string, values: Values = {}): string {
  return sentence.replace(/\{(\w+)\}/g, (whole, name: string) =>
    name in values ? String(values[name]) : whole
  );
}

export function isKorean(locale: string): boolean {
  return /^ko\b/i.test(locale.replace('_', '-'));
}

/** `pack` is a language pack's own look-up; it returns the sentence itself if it has none. */
export function translator(locale: string, pack?: (sentence: string) => string): Translate {
  return (sentence, values) => {
    const packed = pack?.(sentence) ?? sentence;
    const known = packed !== sentence ? packed : isKorean(locale) ? KOREAN[sentence] : undefined;
    return fill(known ?? sentence, values);
  };
}

/** The page's language where it says one that we speak, else the browser's. */
export function pageLocale(page: Document, browser: Navigator): string {
  const said = page.documentElement.lang;
  if (isKorean(said)) {
    return 'ko';
  }
  // JupyterLab and Notebook write lang="en" whatever the language shown, so an English
  // page says nothing about the reader; the browser's first choice does.
  const first = browser.languages?.[0] ?? browser.language ?? 'en';
  return isKorean(first) ? 'ko' : 'en';
}
