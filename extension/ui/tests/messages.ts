/*
 * Messages as the server extension sends them: 30 blocks of an H100 under MPS.
 */

export const LEASE = {
  version: 1,
  lease_id: '0123456789abcdef0123456789abcdef',
  group: 'vision',
  kind: 'blocks',
  blocks: 30,
  memory_mib: 24467,
  pieces: [],
  enforcement: { memory: 'soft', compute: 'soft', by: 'mps' },
  thread_percentage: 30,
  since: '2026-11-23T05:00:00Z',
  until: null,
  simulated: false,
  notes: []
};

export const DEVICE = {
  name: 'H100 80GB',
  piece: '30 blocks',
  scope: 'share',
  memory_used_mib: 6348,
  memory_limit_mib: 24467,
  memory_scope: 'share',
  memory_reason: null,
  busy_percent: 24,
  busy_scope: 'card',
  busy_reason: null,
  busy_source: 'gpm',
  shared_with: 3,
  power_watts: 312,
  temperature_celsius: 51,
  processes: null
};

export function message(
  sequence: number,
  device: Record<string, unknown> = {},
  more: Record<string, unknown> = {}
): Record<string, unknown> {
  return {
    version: 1,
    sequence,
    sampled_at: '2026-11-23T05:00:00.000Z',
    age_seconds: 0.4,
    state: 'live',
    state_reason: null,
    simulated: false,
    lease: LEASE,
    devices: [{ ...DEVICE, ...device }],
    history: [],
    ...more
  };
}

export const NO_GPU = message(
  0,
  {},
  { state: 'no_gpu', lease: null, devices: [], age_seconds: null, sampled_at: null }
);
