/*
 * History: the last five minutes of ticks, in order, without doubles.
 *
 * Rows arrive in bulk after a connection and one at a time afterwards. A sequence that
 * goes backwards means that the server restarted: what was before is another life.
 */

import type { Row, Usage } from './sample';

export const HISTORY_ROWS = 300;

/** The row that a message stands for. */
export function rowOf(usage: Usage): Row {
  return {
    sequence: usage.sequence,
    at: usage.sampled_at ?? '',
    memory_used_mib: usage.devices.map((device) => device.memory_used_mib),
    busy_percent: usage.devices.map((device) => device.busy_percent)
  };
}

/** Returns a new list: `rows` with what `usage` adds, at most HISTORY_ROWS long. */
export function extended(rows: readonly Row[], usage: Usage): readonly Row[] {
  const last = rows.at(-1)?.sequence ?? -1;
  const kept = usage.sequence < last ? [] : rows;
  const from = kept.at(-1)?.sequence ?? -1;
  // A stale message repeats an old reading: it is no new tick.
  const own = usage.state === 'live' && usage.devices.length > 0 ? [rowOf(usage)] : [];
  const added: Row[] = [];
  for (const row of [...usage.history, ...own]) {
    if (row.sequence > (added.at(-1)?.sequence ?? from)) {
      added.push(row);
    }
  }
  return added.length === 0 ? kept : [...kept, ...added].slice(-HISTORY_ROWS);
}

/** One device's busy figures, oldest first. */
export function busySeries(rows: readonly Row[], device: number): (number | null)[] {
  return rows.map((row) => row.busy_percent[device] ?? null);
}

/** Mean and highest of what was measured; null where nothing was. */
export function busySummary(
  series: readonly (number | null)[]
): { mean: number; highest: number } | null {
  const known = series.filter((value): value is number => value !== null);
  if (known.length === 0) {
    return null;
  }
  const sum = known.reduce((total, value) => total + value, 0);
  return { mean: sum / known.length, highest: Math.max(...known) };
}
