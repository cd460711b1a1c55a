/*
 * Holding: who holds a notebook to its piece, in words for the card and the receipt.
 *
 * The names are those of the lease's `enforcement.by`; the strength is what each can do. A
 * lease that says another strength than its engine's is told part by part instead.
 */

import type { Enforced, Lease } from './sample';
import type { Translate } from './words';

const HOLDING: Readonly<Record<string, readonly [Enforced, string]>> = {
  mig: ['hardware', 'held by MIG (hardware)'],
  driver: ['hardware', 'held by the driver (whole GPUs)'],
  mps: ['soft', 'capped by CUDA MPS (soft)'],
  hami: ['soft', 'capped by HAMi (soft)'],
  kai: ['none', 'counted by KAI, not enforced'],
  shares: ['none', 'counted by NVIDIA DRA, not enforced'],
  time_slicing: ['none', 'used in turns (time-slicing), not enforced'],
  advisory: ['none', 'kept by agreement, not enforced'],
  simulated: ['none', 'simulated, not enforced'],
  none: ['none', 'not enforced']
};

const ENFORCED = {
  hardware: 'held by hardware',
  soft: 'a soft limit',
  none: 'not enforced'
} as const;

/** What one check of the receipt rests on; null for a name that is not known. */
export function heldBy(by: string, t: Translate): string | null {
  const known = Object.hasOwn(HOLDING, by) ? HOLDING[by] : undefined;
  return known === undefined ? null : t(known[1]);
}

/** The whole sentence for a lease of so much memory. */
export function holding(limit: string, enforcement: Lease['enforcement'], t: Translate): string {
  const { memory, compute, by } = enforcement;
  const known = Object.hasOwn(HOLDING, by) ? HOLDING[by] : undefined;
  if (known !== undefined && memory === known[0] && compute === known[0]) {
    return t('{limit} GiB: memory and compute {held}.', { limit, held: t(known[1]) });
  }
  return t('Memory: {limit} GiB, {memory}. Compute: {compute}. By {by}.', {
    limit,
    memory: t(ENFORCED[memory]),
    compute: t(ENFORCED[compute]),
    by: by === 'mps' ? 'CUDA MPS' : by
  });
}
