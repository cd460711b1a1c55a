/*
 * Summary: all pieces of a server in one line, and the state that it is in.
 *
 * Pure. The status item, the popup's heading and the widget say the same because they ask
 * here. Memory is the sum over the pieces, busy their mean; if one piece's figure is
 * unknown, so is the whole's. The cap is looked at piece by piece: a full piece fails an
 * allocation although another is empty.
 */

import { age, gib, memoryShort, percent, UNKNOWN } from './format';
import { ageSeconds, type Knowledge } from './line';
import type { Fault } from './connection';
import type { Device } from './sample';
import type { Translate } from './words';

/** Of the limit, in percent; from here on the figure is marked. */
export const NEAR_CAP_PERCENT = 90;
/** The sampler ticks once a second, a poll comes every five: older than this is stale. */
export const STALE_SECONDS = 12;

export type Mood = 'waiting' | 'no_gpu' | 'live' | 'near_cap' | 'stale' | 'unknown';

export interface Summary {
  readonly mood: Mood;
  readonly text: string;
  /** Why, in a sentence; null when all is well. */
  readonly reason: string | null;
  readonly simulated: boolean;
}

const FAULTS: Readonly<Record<Fault, string>> = {
  lost: 'The connection to the server is lost; it is tried again by itself.',
  absent: 'This server does not answer for GPU figures: aliquot is not installed beside it.',
  refused: 'You are not signed in to this server any more. Reload the page.',
  other: 'The page and the server have different versions of aliquot. Reload the page.'
};

/** How full a piece's memory is, 0 to 100; null if either number is unknown. */
export function fullness(device: Device): number | null {
  const { memory_used_mib: used, memory_limit_mib: limit } = device;
  return used === null || limit === null || limit <= 0 ? null : Math.min((100 * used) / limit, 100);
}

/** The fullest piece at or above the cap's mark, if any. */
export function nearCap(devices: readonly Device[]): { device: Device; percent: number } | null {
  let fullest: { device: Device; percent: number } | null = null;
  for (const device of devices) {
    const full = fullness(device);
    if (full !== null && full >= NEAR_CAP_PERCENT && full > (fullest?.percent ?? -1)) {
      fullest = { device, percent: full };
    }
  }
  return fullest;
}

function total(figures: readonly (number | null)[]): number | null {
  return figures.length === 0 || figures.includes(null)
    ? null
    : (figures as readonly number[]).reduce((sum, figure) => sum + figure, 0);
}

function shortText(devices: readonly Device[], t: Translate): string {
  const busy = total(devices.map((device) => device.busy_percent));
  let memoryText = memoryShort(
    total(devices.map((device) => device.memory_used_mib)),
    total(devices.map((device) => device.memory_limit_mib))
  );
  let busyText = busy === null ? UNKNOWN : `${percent(busy / devices.length)} %`;
  // A card's figure beside a share's name would be taken for the share's.
  const memoryOfCard = devices.some((d) => d.memory_scope === 'card' && d.scope !== 'card');
  const busyOfCard =
    busy !== null && devices.some((d) => d.busy_scope === 'card' && d.scope !== 'card');
  if (memoryOfCard && !busyOfCard) {
    memoryText = t('{figure} (card)', { figure: memoryText });
  } else if (busyOfCard) {
    busyText = t(memoryOfCard ? '{figure} (whole card)' : '{figure} (card)', { figure: busyText });
  }
  return t(devices.length > 1 ? '{count} GPUs {memory} · {busy}' : 'GPU {memory} · {busy}', {
    count: devices.length,
    memory: memoryText,
    busy: busyText
  });
}

export function summary(known: Knowledge, now_ms: number, t: Translate): Summary {
  const { usage, fault } = known;
  const simulated = usage?.simulated ?? false;
  const broken = fault === null ? null : t(FAULTS[fault]);
  if (usage === null) {
    return {
      mood: broken === null ? 'waiting' : 'unknown',
      text: t('GPU –'),
      reason: broken ?? t('Waiting for the first figures…'),
      simulated
    };
  }
  if (usage.state === 'no_gpu') {
    return {
      mood: 'no_gpu',
      text: t('No GPU'),
      reason: t(
        'This server has no GPU. To get one, stop it and choose a GPU size when you start it again.'
      ),
      simulated
    };
  }
  const seconds = ageSeconds(known, now_ms);
  if (usage.state === 'unavailable' || usage.devices.length === 0 || seconds === null) {
    const why = usage.state_reason ?? broken ?? t('The figures cannot be read right now.');
    return { mood: 'unknown', text: t('GPU –'), reason: why, simulated };
  }
  const text = shortText(usage.devices, t);
  if (usage.state === 'stale' || seconds > STALE_SECONDS) {
    return {
      mood: 'stale',
      text: `${text} (${age(seconds, t)})`,
      reason: broken ?? usage.state_reason ?? t('The figures cannot be read right now.'),
      simulated
    };
  }
  const full = nearCap(usage.devices);
  if (full !== null) {
    return { mood: 'near_cap', text, reason: capSentence(full, t), simulated };
  }
  const unknown = usage.devices.find((d) => d.busy_percent === null || d.memory_used_mib === null);
  const why = unknown === undefined ? null : (unknown.memory_reason ?? unknown.busy_reason);
  return { mood: 'live', text, reason: why, simulated };
}

export function capSentence(full: { device: Device; percent: number }, t: Translate): string {
  return t(
    'GPU memory is at {percent} % of its limit: {used} of {limit} GiB. Free some, or save your work.',
    {
      percent: percent(full.percent),
      used: gib(full.device.memory_used_mib),
      limit: gib(full.device.memory_limit_mib)
    }
  );
}

/**
 * Says once per crossing that a cap is near: below 85 % it is armed again, so a figure that
 * swings around the mark is not told every second.
 */
export class CapAlarm {
  private armed = true;

  /** The sentence to show, or null. */
  heard(devices: readonly Device[], t: Translate): string | null {
    const full = nearCap(devices);
    if (full !== null && this.armed) {
      this.armed = false;
      return capSentence(full, t);
    }
    if (devices.length > 0 && devices.every((d) => (fullness(d) ?? 100) < NEAR_CAP_PERCENT - 5)) {
      this.armed = true;
    }
    return null;
  }
}
