/*
 * The widget's view: what `Usage()` shows in a notebook (anywidget).
 *
 * It asks the server extension, not the kernel, so it ticks while a cell holds Python's
 * lock. Only where the server cannot be reached (VS Code, Colab, a page of another origin)
 * the kernel is asked to send, and the card says so.
 *
 * Traits: `sample`, a usage message from the kernel, {} if none; `language`, "en" or "ko",
 * "" for the page's. {"type": "pump", "seconds": 30} asks the kernel to send for so long,
 * {"type": "stop"} ends it early.
 */

import { card } from '../shared/card';
import { ageSeconds, learned, NOTHING_KNOWN, watch, type Knowledge } from '../shared/line';
import { askReceipt } from '../shared/receipt';
import { readUsage, type Usage } from '../shared/sample';
import { pageBaseUrl } from '../shared/server';
import { STALE_SECONDS } from '../shared/summary';
import { pageLocale, translator } from '../shared/words';

/** What of anywidget's model is used here. */
export interface Model {
  get(name: 'sample' | 'language'): unknown;
  on(event: 'change:sample', heard: () => void): void;
  off(event: 'change:sample', heard: () => void): void;
  send(content: { type: 'pump'; seconds: number } | { type: 'stop' }): void;
}

const PUMP_SECONDS = 30;
// Asked again before the last wish runs out, however slowly the kernel hears it.
const ASK_AGAIN_SECONDS = 20;

/** The kernel's message; a saved notebook's is as old as its date says. */
function sampleOf(model: Model, stored: boolean): Usage | null {
  try {
    const usage = readUsage(model.get('sample'));
    if (!stored || usage.sampled_at === null || usage.age_seconds === null) {
      return usage;
    }
    const since = (Date.now() - Date.parse(usage.sampled_at)) / 1000;
    return { ...usage, age_seconds: Math.max(usage.age_seconds, since) };
  } catch {
    return null;
  }
}

function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  const wished = model.get('language');
  const locale =
    typeof wished === 'string' && wished !== '' ? wished : pageLocale(document, navigator);
  const t = translator(locale);
  const view = card(t);
  view.node.lang = locale;
  el.append(view.node);

  let server: Knowledge = NOTHING_KNOWN;
  let kernel: Knowledge = NOTHING_KNOWN;
  let pump: number | undefined;
  let stopReceipt: (() => void) | null = null;

  const serverIsFresh = () =>
    server.usage !== null &&
    (server.fault === null || performance.now() - server.received_at_ms < STALE_SECONDS * 1000);
  const show = () => {
    const now = performance.now();
    // Of two that stand still the newer one: the kernel's may be from when it was displayed.
    const kernelIsNewer = (ageSeconds(kernel, now) ?? Infinity) < (ageSeconds(server, now) ?? Infinity);
    const fromServer = kernel.usage === null || serverIsFresh();
    view.show(fromServer || (server.usage !== null && !kernelIsNewer) ? server : kernel);
  };
  const ask = () => {
    if (!document.hidden) {
      model.send({ type: 'pump', seconds: PUMP_SECONDS });
    }
  };
  const choose = () => {
    const needed = base === null || (server.fault !== null && !serverIsFresh());
    if (needed && pump === undefined) {
      ask();
      pump = window.setInterval(ask, ASK_AGAIN_SECONDS * 1000);
    } else if (!needed && pump !== undefined) {
      clearInterval(pump);
      pump = undefined;
      model.send({ type: 'stop' });
    }
  };
  const onSample = () => {
    const usage = sampleOf(model, false);
    if (usage !== null) {
      kernel = learned(kernel, usage, 'kernel');
      show();
    }
  };

  const base = pageBaseUrl(document);
  const stored = sampleOf(model, true);
  if (stored !== null) {
    kernel = learned(kernel, stored, 'kernel');
  }
  model.on('change:sample', onSample);
  const stopWatching =
    base === null
      ? null
      : watch(base, locale, (known) => {
          server = known;
          if (stopReceipt === null && known.usage?.lease) {
            stopReceipt = askReceipt(base, locale, view.showReceipt);
          }
          choose();
          show();
        });
  choose();
  show();

  return () => {
    model.off('change:sample', onSample);
    if (pump !== undefined) {
      clearInterval(pump);
      model.send({ type: 'stop' });
    }
    stopReceipt?.();
    stopWatching?.();
    view.node.remove();
  };
}

export default { render };
