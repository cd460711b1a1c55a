/*
 * The server extension's JSON, version 1, as typed values.
 *
 * Parsed at the door: what does not have the shape is refused with a sentence, and the
 * rest of the code trusts what it gets. A figure that could not be measured is null,
 * never 0. Names are those of the JSON.
 *
 * A *scope* says what a figure belongs to: the slice, the share, or the whole card.
 */

export type Scope = 'slice' | 'share' | 'card';
export type State = 'live' | 'stale' | 'no_gpu' | 'unavailable';
export type Enforced = 'hardware' | 'soft' | 'none';

export interface Lease {
  readonly lease_id: string;
  readonly group: string | null;
  readonly kind: string;
  readonly blocks: number | null;
  readonly memory_mib: number | null;
  readonly enforcement: { readonly memory: Enforced; readonly compute: Enforced; readonly by: string };
  readonly until: string | null;
  readonly notes: readonly string[];
}

export interface Device {
  readonly name: string;
  readonly piece: string;
  /** What the piece itself is; a figure's scope may be wider. */
  readonly scope: Scope;
  readonly memory_used_mib: number | null;
  readonly memory_limit_mib: number | null;
  readonly memory_scope: Scope;
  readonly memory_reason: string | null;
  readonly busy_percent: number | null;
  readonly busy_scope: Scope;
  readonly busy_reason: string | null;
  readonly shared_with: number | null;
  readonly power_watts: number | null;
  readonly temperature_celsius: number | null;
}

/** One tick; the arrays run along `Usage.devices`. */
export interface Row {
  readonly sequence: number;
  readonly at: string;
  readonly memory_used_mib: readonly (number | null)[];
  readonly busy_percent: readonly (number | null)[];
}

export interface Usage {
  readonly sequence: number;
  readonly sampled_at: string | null;
  /** Age at the moment of sending; null before the first reading. */
  readonly age_seconds: number | null;
  readonly state: State;
  readonly state_reason: string | null;
  readonly simulated: boolean;
  readonly lease: Lease | null;
  readonly devices: readonly Device[];
  readonly history: readonly Row[];
}

export interface Check {
  readonly what: string;
  readonly expected: string;
  readonly seen: string;
  readonly result: 'pass' | 'fail' | 'unknown';
  readonly reason: string | null;
  readonly enforced_by: string | null;
}

export interface Receipt {
  readonly verdict: 'verified' | 'mismatch' | 'not_verifiable';
  readonly checked_at: string | null;
  /** Why there are no checks; null where there are. */
  readonly reason: string | null;
  readonly checks: readonly Check[];
}

/** The answer came from another version, or from something that is not the extension. */
export class UnreadableAnswer extends Error {}

type Fields = Record<string, unknown>;

function fields(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UnreadableAnswer(`${what} is not an object`);
  }
  return value as Fields;
}

function number(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function oneOf<T extends string>(value: unknown, known: readonly T[], otherwise: T): T {
  return known.includes(value as T) ? (value as T) : otherwise;
}

const SCOPES = ['slice', 'share', 'card'] as const;
const STATES = ['live', 'stale', 'no_gpu', 'unavailable'] as const;
const ENFORCED = ['hardware', 'soft', 'none'] as const;

function versionOne(value: unknown, what: string): Fields {
  const answer = fields(value, what);
  if (answer['version'] !== 1) {
    throw new UnreadableAnswer(`${what} has version ${String(answer['version'])}, not 1`);
  }
  return answer;
}

function readLease(value: unknown): Lease | null {
  if (value === null || value === undefined) {
    return null;
  }
  const lease = fields(value, 'the lease');
  const enforcement = fields(lease['enforcement'] ?? {}, 'the enforcement');
  return {
    lease_id: text(lease['lease_id']) ?? '',
    group: text(lease['group']),
    kind: text(lease['kind']) ?? '',
    blocks: number(lease['blocks']),
    memory_mib: number(lease['memory_mib']),
    enforcement: {
      memory: oneOf(enforcement['memory'], ENFORCED, 'none'),
      compute: oneOf(enforcement['compute'], ENFORCED, 'none'),
      by: text(enforcement['by']) ?? ''
    },
    until: text(lease['until']),
    notes: list(lease['notes']).filter((note): note is string => typeof note === 'string')
  };
}

function readDevice(value: unknown): Device {
  const device = fields(value, 'a device');
  return {
    name: text(device['name']) ?? 'GPU',
    piece: text(device['piece']) ?? '',
    scope: oneOf(device['scope'], SCOPES, 'card'),
    memory_used_mib: number(device['memory_used_mib']),
    memory_limit_mib: number(device['memory_limit_mib']),
    memory_scope: oneOf(device['memory_scope'] ?? device['scope'], SCOPES, 'card'),
    memory_reason: text(device['memory_reason']),
    busy_percent: number(device['busy_percent']),
    busy_scope: oneOf(device['busy_scope'], SCOPES, 'card'),
    busy_reason: text(device['busy_reason']),
    shared_with: number(device['shared_with']),
    power_watts: number(device['power_watts']),
    temperature_celsius: number(device['temperature_celsius'])
  };
}

function readRow(value: unknown): Row {
  const row = fields(value, 'a row of the history');
  return {
    sequence: number(row['sequence']) ?? 0,
    at: text(row['at']) ?? '',
    memory_used_mib: list(row['memory_used_mib']).map(number),
    busy_percent: list(row['busy_percent']).map(number)
  };
}

/** Parse a usage message; throws UnreadableAnswer. */
export function readUsage(value: unknown): Usage {
  const answer = versionOne(value, 'the usage');
  return {
    sequence: number(answer['sequence']) ?? 0,
    sampled_at: text(answer['sampled_at']),
    age_seconds: number(answer['age_seconds']),
    state: oneOf(answer['state'], STATES, 'unavailable'),
    state_reason: text(answer['state_reason']),
    simulated: answer['simulated'] === true,
    lease: readLease(answer['lease']),
    devices: list(answer['devices']).map(readDevice),
    history: list(answer['history']).map(readRow)
  };
}

/** Parse a receipt; throws UnreadableAnswer. */
export function readReceipt(value: unknown): Receipt {
  const answer = versionOne(value, 'the receipt');
  return {
    verdict: oneOf(
      answer['verdict'],
      ['verified', 'mismatch', 'not_verifiable'] as const,
      'not_verifiable'
    ),
    checked_at: text(answer['checked_at']),
    reason: text(answer['reason']),
    checks: list(answer['checks']).map((item) => {
      const check = fields(item, 'a check');
      return {
        what: text(check['what']) ?? '',
        expected: text(check['expected']) ?? '',
        seen: text(check['seen']) ?? '',
        result: oneOf(check['result'], ['pass', 'fail', 'unknown'] as const, 'unknown'),
        reason: text(check['reason']),
        enforced_by: text(check['enforced_by'])
      };
    })
  };
}
