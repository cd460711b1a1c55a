/*
 * Runs: the verdict for every amount, without asking the server again.
 *
 * The page sends, for each unit, runs of amounts with the same verdict. Blocks are always
 * there; GB and whole GPUs are turned into blocks where they have no runs of their own.
 */

export type State = 'now' | 'later' | 'approval' | 'no';
export type Unit = 'blocks' | 'gb' | 'gpus';

export interface Run {
  readonly from: number;
  readonly to: number;
  readonly state: State;
  readonly verdict: string;
  readonly detail: string;
  readonly memory_mib_per_block: number | null;
}

export type Runs = Readonly<Partial<Record<Unit, readonly Run[]>>>;

export const STATES: readonly State[] = ['now', 'later', 'approval', 'no'];
const BLOCKS_PER_GPU = 100;
const MIB_PER_GIB = 1024;
// Memory is asked for in GB of 10^9 bytes, and shown in GiB.
const MIB_PER_GB = 1e9 / 2 ** 20;

export function stateOf(value: unknown): State {
  return STATES.find((state) => state === value) ?? 'no';
}

function runOf(value: unknown): Run | null {
  const run = value as Record<string, unknown> | null;
  if (typeof run !== 'object' || run === null) {
    return null;
  }
  const { from, to, verdict, detail, memory_text_per_block_mib: memory } = run;
  if (typeof from !== 'number' || typeof to !== 'number' || typeof verdict !== 'string') {
    return null;
  }
  return {
    from,
    to,
    state: stateOf(run['state']),
    verdict,
    detail: typeof detail === 'string' ? detail : '',
    memory_mib_per_block: typeof memory === 'number' ? memory : null
  };
}

export function readRuns(json: string | null | undefined): Runs {
  let read: unknown;
  try {
    read = JSON.parse(json ?? '{}');
  } catch {
    return {};
  }
  const runs: Partial<Record<Unit, readonly Run[]>> = {};
  for (const unit of ['blocks', 'gb', 'gpus'] as const) {
    const listed = (read as Record<string, unknown> | null)?.[unit];
    if (Array.isArray(listed)) {
      runs[unit] = listed.map(runOf).filter((run) => run !== null);
    }
  }
  return runs;
}

/** A typed amount: a number with a point or a comma; null for anything else. */
export function parseAmount(text: string): number | null {
  const trimmed = text.trim().replace(',', '.');
  return /^\d{1,9}(\.\d{1,6})?$/.test(trimmed) ? Number(trimmed) : null;
}

function memoryPerBlock(runs: Runs): number | null {
  return runs.blocks?.find((run) => run.memory_mib_per_block !== null)?.memory_mib_per_block ?? null;
}

/** The blocks that an amount needs; null if the unit cannot be turned into blocks here. */
export function blocksFor(runs: Runs, unit: Unit, amount: number): number | null {
  if (unit === 'blocks') {
    return amount;
  }
  if (unit === 'gpus') {
    // 3.1 × 100 is 310.00000000000006 to a computer.
    return Math.round(amount * BLOCKS_PER_GPU * 1e6) / 1e6;
  }
  const memory = memoryPerBlock(runs);
  return memory === null ? null : Math.ceil((amount * MIB_PER_GB) / memory - 1e-9);
}

export interface Range {
  readonly from: number;
  readonly to: number;
  readonly step: number;
}

/** What may be asked for in a unit; null if the page sent no runs for it. */
export function rangeOf(runs: Runs, unit: Unit): Range | null {
  const own = runs[unit];
  const step = unit === 'gpus' ? 0.01 : 1;
  if (own !== undefined && own.length > 0) {
    return { from: own[0]!.from, to: own.at(-1)!.to, step };
  }
  const blocks = runs.blocks;
  if (blocks === undefined || blocks.length === 0) {
    return null;
  }
  const most = blocks.at(-1)!.to;
  if (unit === 'gpus') {
    return { from: blocks[0]!.from / BLOCKS_PER_GPU, to: most / BLOCKS_PER_GPU, step };
  }
  const memory = memoryPerBlock(runs);
  return memory === null
    ? null
    : { from: 1, to: Math.max(1, Math.floor((most * memory) / MIB_PER_GB)), step };
}

/** The run that an amount falls into; null outside every run, or between two. */
export function runFor(runs: Runs, unit: Unit, amount: number): Run | null {
  const own = runs[unit];
  if (own !== undefined && own.length > 0) {
    return own.find((run) => run.from <= amount && amount <= run.to) ?? null;
  }
  const blocks = blocksFor(runs, unit, amount);
  return blocks === null
    ? null
    : (runs.blocks?.find((run) => run.from <= blocks && blocks <= run.to) ?? null);
}

/** GiB with one decimal, as the card says it; null if unknown. */
export function memoryText(runs: Runs, unit: Unit, amount: number): string | null {
  const blocks = blocksFor(runs, unit, amount);
  const run = runFor(runs, unit, amount);
  const memory = run?.memory_mib_per_block ?? memoryPerBlock(runs);
  return blocks === null || memory === null ? null : ((blocks * memory) / MIB_PER_GIB).toFixed(1);
}
