/*
 * Where the script begins, once the form is there.
 */

import { Picker } from './picker';

function start(): void {
  const root = document.getElementById('aliquot-picker');
  if (root !== null && !root.classList.contains('aliquot-enhanced')) {
    new Picker(root);
  }
}

if (document.readyState === 'loading') {
  document.addEventListener('DOMContentLoaded', start);
} else {
  start();
}
