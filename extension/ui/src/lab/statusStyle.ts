/*
 * The status item's and the popup's style, in JupyterLab's own variables.
 */

export const STATUS_STYLE = `
[data-jp-theme-light="true"] .aliquot-status { color-scheme: light; }
[data-jp-theme-light="false"] .aliquot-status { color-scheme: dark; }
.aliquot-status { display: flex; align-items: center; align-self: center; }
.aliquot-status [hidden] { display: none; }
.aliquot-status-button {
  display: inline-flex; align-items: center; gap: 5px; height: 24px; padding: 0 6px; border: 0;
  background: none; color: var(--jp-ui-font-color1); cursor: pointer;
  font: var(--jp-ui-font-size1)/24px var(--jp-ui-font-family); white-space: nowrap;
  font-variant-numeric: tabular-nums;
}
.aliquot-status-button:hover { background: var(--jp-layout-color3); }
.aliquot-status-button:focus-visible { outline: 2px solid var(--jp-brand-color1); outline-offset: -2px; }
.aliquot-status-mark {
  border: 1px dashed currentColor; border-radius: 3px; padding: 0 4px; line-height: 16px;
  font-size: var(--jp-ui-font-size0);
}
.aliquot-status:is([data-mood="stale"], [data-mood="no_gpu"], [data-mood="unknown"], [data-mood="waiting"])
  .aliquot-status-button { color: color-mix(in srgb, var(--jp-ui-font-color1) 80%, transparent); }
.aliquot-status[data-mood="stale"] .aliquot-status-text { font-style: italic; }
.aliquot-status[data-mood="near_cap"] .aliquot-status-button { font-weight: 600; }
.aliquot-status[data-mood="near_cap"] .aliquot-status-sign { color: light-dark(#8a4b00, #ffb74d); }
.aliquot-status-news {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
.aliquot-popup {
  position: fixed; z-index: 10000; width: 440px; max-width: calc(100vw - 8px);
  box-sizing: border-box; overflow: auto;
  background: var(--jp-layout-color1); color: var(--jp-ui-font-color1);
  border: 1px solid var(--jp-border-color1); border-radius: var(--jp-border-radius, 2px);
  box-shadow: var(--jp-elevation-z6, 0 3px 10px rgb(0 0 0 / 30%));
}
.aliquot-popup .aliquot-head { padding-inline-end: 28px; }
.aliquot-popup-close {
  position: absolute; top: 8px; inset-inline-end: 8px; width: 26px; height: 26px; border: 0;
  border-radius: 3px; background: none; color: inherit; cursor: pointer; font-size: 14px;
}
.aliquot-popup-close:hover { background: var(--jp-layout-color3); }
.aliquot-popup-close:focus-visible { outline: 2px solid var(--jp-brand-color1); }
`;
