/*
 * Numbers as people read them, with their unit and what they are measured against.
 *
 * An unknown is "–", never 0. Memory is GiB with one decimal; a figure that is not zero
 * is never shown as 0.0, because "0.0 GiB" reads as nothing held.
 */

import type { Translate } from './words';

export const UNKNOWN = '–';
const MIB_PER_GIB = 1024;

/** GiB with one decimal, without the unit. */
export function gib(mib: number | null): string {
  if (mib === null || !Number.isFinite(mib)) {
    return UNKNOWN;
  }
  const value = mib / MIB_PER_GIB;
  return (mib > 0 ? Math.max(value, 0.1) : 0).toFixed(1);
}

/** A whole number, without the sign; rounding never turns "some" into 0 or "not all" into 100. */
export function percent(value: number | null): string {
  if (value === null || !Number.isFinite(value)) {
    return UNKNOWN;
  }
  const rounded = Math.round(value);
  if (rounded === 0 && value > 0) {
    return '1';
  }
  return String(rounded === 100 && value < 100 ? 99 : rounded);
}

/** "9.1/20.0 GiB", or "9.1 GiB" without a limit. */
export function memoryShort(used: number | null, limit: number | null): string {
  return limit === null ? `${gib(used)} GiB` : `${gib(used)}/${gib(limit)} GiB`;
}

export function age(seconds: number, t: Translate): string {
  if (seconds < 100) {
    return t('{seconds} s ago', { seconds: Math.round(seconds) });
  }
  if (seconds < 6000) {
    return t('{minutes} min ago', { minutes: Math.round(seconds / 60) });
  }
  return t('{hours} h ago', { hours: Math.round(seconds / 3600) });
}
