/*
 * The card's style: JupyterLab's variables where there are any, the system's colours else.
 * Warnings have colours of their own: JupyterLab's orange is too pale to be read as text.
 *
 * One column at 320 px; from 420 px of its own width a figure stands beside its bar.
 */

export const CARD_STYLE = `
[data-jp-theme-light="true"] .aliquot-card { color-scheme: light; }
[data-jp-theme-light="false"] .aliquot-card { color-scheme: dark; }
.aliquot-card {
  --aq-text: var(--jp-ui-font-color1, light-dark(#212121, #e8e8e8));
  --aq-soft: color-mix(in srgb, var(--aq-text) 72%, transparent);
  --aq-line: var(--jp-border-color2, light-dark(#d0d0d0, #555));
  --aq-track: var(--jp-layout-color3, light-dark(#e0e0e0, #444));
  --aq-fill: var(--jp-brand-color1, light-dark(#1565c0, #64b5f6));
  --aq-warn: light-dark(#8a4b00, #ffb74d);
  --aq-fail: light-dark(#b71c1c, #ff8a80);
  color: var(--aq-text);
  font-family: var(--jp-ui-font-family, system-ui, sans-serif);
  font-size: var(--jp-ui-font-size1, 13px);
  line-height: 1.45;
  container-type: inline-size;
  box-sizing: border-box;
  max-width: 34rem;
  padding: 12px;
  text-align: start;
}
.aliquot-card :is(h3, h4, p, ul) { margin: 0; font-size: inherit; }
.aliquot-card [hidden] { display: none; }
.aliquot-head { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: baseline; }
.aliquot-title { font-weight: 600; flex: 1 1 auto; }
.aliquot-mark {
  border: 1px dashed currentColor; border-radius: 3px; padding: 0 6px; color: var(--aq-soft);
}
.aliquot-clock { color: var(--aq-soft); }
.aliquot-card:is([data-mood="live"], [data-mood="near_cap"]) .aliquot-clock::before { content: "● "; color: var(--aq-fill); }
.aliquot-reason { margin-top: 6px !important; }
.aliquot-card[data-mood="near_cap"] .aliquot-reason,
.aliquot-card[data-mood="stale"] .aliquot-clock { color: var(--aq-warn); }
.aliquot-piece { margin-top: 10px; }
.aliquot-piece + .aliquot-piece { border-top: 1px solid var(--aq-line); padding-top: 10px; }
.aliquot-piece-name { font-weight: 600; }
.aliquot-row {
  display: grid; grid-template-columns: 1fr auto; gap: 2px 10px; align-items: center;
  margin-top: 6px;
}
.aliquot-row > .aliquot-bar, .aliquot-row > .aliquot-sparkline { grid-column: 1 / -1; grid-row: 2; }
.aliquot-figure { font-variant-numeric: tabular-nums; white-space: nowrap; }
.aliquot-bar {
  height: 10px; border-radius: 5px; background: var(--aq-track); overflow: hidden;
}
.aliquot-bar-fill {
  height: 100%; background: var(--aq-fill); transition: width 0.3s; min-width: 0;
}
.aliquot-near-cap .aliquot-bar-fill { background: var(--aq-warn); }
.aliquot-near-cap .aliquot-figure:first-of-type { font-weight: 600; }
.aliquot-sparkline {
  width: 100%; height: 28px; color: var(--aq-fill); border-bottom: 1px solid var(--aq-line);
  box-sizing: border-box;
}
.aliquot-note, .aliquot-notes { color: var(--aq-soft); font-size: 0.92em !important; }
.aliquot-pieces + .aliquot-note { margin-top: 10px !important; }
.aliquot-notes, .aliquot-receipt-checks { padding-inline-start: 1.2em; }
.aliquot-receipt { margin-top: 8px; }
.aliquot-receipt summary { cursor: pointer; }
.aliquot-receipt-verdict { font-weight: 600; }
.aliquot-receipt[data-verdict="mismatch"] .aliquot-receipt-verdict { color: var(--aq-fail); }
.aliquot-receipt-checks { list-style: none; padding-inline-start: 0.4em; overflow-wrap: anywhere; }
.aliquot-card[data-mood="stale"] { --aq-fill: var(--aq-soft); }
.aliquot-card[data-mood="stale"] .aliquot-pieces { color: var(--aq-soft); }
@container (min-width: 420px) {
  .aliquot-row { grid-template-columns: 5em 1fr minmax(12em, max-content); }
  .aliquot-row > .aliquot-bar, .aliquot-row > .aliquot-sparkline { grid-column: 2; grid-row: 1; }
  .aliquot-row > .aliquot-figure { grid-column: 3; }
  .aliquot-piece .aliquot-note { margin-inline-start: calc(5em / 0.92 + 10px); }
}
@media (prefers-reduced-motion: reduce) { .aliquot-bar-fill { transition: none; } }
@media (forced-colors: active) {
  .aliquot-bar { border: 1px solid CanvasText; }
  .aliquot-bar-fill { background: Highlight; forced-color-adjust: none; }
}
`;
