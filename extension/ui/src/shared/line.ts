/*
 * Line: what one page knows of its server's GPUs, shared by everything on the page.
 *
 * A status item and ten widgets hold one connection between them; the last to leave closes
 * it. A reading's age is counted on this machine's steady clock from the moment it came,
 * so a clock that is wrong or jumps changes nothing.
 */

import { Connection, type Fault } from './connection';
import { extended } from './history';
import type { Row, Usage } from './sample';

export interface Knowledge {
  readonly usage: Usage | null;
  /** performance.now() when `usage` came. */
  readonly received_at_ms: number;
  readonly rows: readonly Row[];
  readonly fault: Fault | null;
  readonly from: 'server' | 'kernel';
}

export const NOTHING_KNOWN: Knowledge = {
  usage: null,
  received_at_ms: 0,
  rows: [],
  fault: null,
  from: 'server'
};

/** `known` after a message, wherever it came from. */
export function learned(known: Knowledge, usage: Usage, from: 'server' | 'kernel'): Knowledge {
  return {
    usage,
    received_at_ms: performance.now(),
    rows: extended(known.rows, usage),
    fault: from === 'server' ? null : known.fault,
    from
  };
}

/** Seconds since the reading was taken; null if there is none. */
export function ageSeconds(known: Knowledge, now_ms: number): number | null {
  const age = known.usage?.age_seconds;
  return age === null || age === undefined
    ? null
    : age + Math.max(0, now_ms - known.received_at_ms) / 1000;
}

export type Watcher = (known: Knowledge) => void;

interface Line {
  readonly watchers: Set<Watcher>;
  readonly connection: Connection;
  readonly clock: number;
  known: Knowledge;
}

// Without messages the age still grows: say so at this pace.
const AGEING_SECONDS = 5;

// Each widget may load its own copy of this module: the lines live on the page itself. The
// number is the shape's version.
const LINES = Symbol.for('aliquot.lines.1');
type Page = typeof globalThis & { [LINES]?: Map<string, Line> };

/** Call `watcher` now and after every change; the answer stops it. */
export function watch(base: string, lang: string, watcher: Watcher): () => void {
  const lines = ((globalThis as Page)[LINES] ??= new Map<string, Line>());
  const key = `${lang} ${base}`;
  let line = lines.get(key);
  if (line === undefined) {
    line = openLine(base, lang);
    lines.set(key, line);
  }
  const held = line;
  held.watchers.add(watcher);
  watcher(held.known);
  return () => {
    held.watchers.delete(watcher);
    if (held.watchers.size === 0 && lines.get(key) === held) {
      lines.delete(key);
      held.connection.close();
      clearInterval(held.clock);
    }
  };
}

function openLine(base: string, lang: string): Line {
  const watchers = new Set<Watcher>();
  const tell = (known: Knowledge) => {
    line.known = known;
    watchers.forEach((watcher) => watcher(known));
  };
  const line: Line = {
    watchers,
    known: NOTHING_KNOWN,
    clock: window.setInterval(() => {
      const silent_ms = performance.now() - line.known.received_at_ms;
      if (!document.hidden && silent_ms > AGEING_SECONDS * 900 && line.known.usage !== null) {
        watchers.forEach((watcher) => watcher(line.known));
      }
    }, AGEING_SECONDS * 1000),
    connection: new Connection(base, lang, {
      usage: (usage) => tell(learned(line.known, usage, 'server')),
      fault: (fault) => tell({ ...line.known, fault })
    })
  };
  return line;
}
