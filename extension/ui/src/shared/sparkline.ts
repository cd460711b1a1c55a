/*
 * A sparkline on a canvas, 0 to 100 %, newest at the right edge.
 *
 * A gap in the figures is a gap in the line. The colour is the canvas's own CSS colour,
 * so themes apply; the text alternative is the caller's, who knows what is drawn.
 */

import { HISTORY_ROWS } from './history';

export function drawSparkline(canvas: HTMLCanvasElement, series: readonly (number | null)[]): void {
  const context = canvas.getContext('2d');
  if (context === null) {
    return;
  }
  const scale = globalThis.devicePixelRatio || 1;
  const width = canvas.clientWidth || 120;
  const height = canvas.clientHeight || 24;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const colour = getComputedStyle(canvas).color;
  const step = (width - 2) / (HISTORY_ROWS - 1);
  const x = (index: number) => width - 1 - (series.length - 1 - index) * step;
  const y = (value: number) => height - 1.5 - (Math.min(Math.max(value, 0), 100) / 100) * (height - 3);

  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 1.5;
  context.lineJoin = 'round';
  let run: [number, number][] = [];
  const flush = () => {
    const first = run[0];
    const last = run.at(-1);
    if (first !== undefined && last !== undefined) {
      context.beginPath();
      // A single tick between two gaps has no length: give it one that can be seen.
      context.moveTo(run.length === 1 ? first[0] - 1 : first[0], first[1]);
      run.forEach(([px, py]) => context.lineTo(px, py));
      context.stroke();
      context.lineTo(last[0], height);
      context.lineTo(first[0], height);
      context.globalAlpha = 0.15;
      context.fill();
      context.globalAlpha = 1;
    }
    run = [];
  };
  series.forEach((value, index) => {
    if (value === null) {
      flush();
    } else {
      run.push([x(index), y(value)]);
    }
  });
  flush();
}
