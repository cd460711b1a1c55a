/*
 * Elements with text only: nothing that a server or a kernel says is ever read as HTML.
 */

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = '',
  attributes: Readonly<Record<string, string>> = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (className !== '') {
    made.className = className;
  }
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Set only what changed: a screen reader and the layout are not woken for the same text. */
export function say(node: HTMLElement, text: string): void {
  if (node.textContent !== text) {
    node.textContent = text;
  }
  const hidden = text === '';
  if (node.hidden !== hidden) {
    node.hidden = hidden;
  }
}
