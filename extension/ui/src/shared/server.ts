/*
 * Where the Jupyter server is, and how it is asked.
 *
 * The page says its server in `jupyter-config-data`; a page that does not (VS Code, Colab)
 * has no server that its cookie opens. JupyterHub answers a GET by script without the
 * `X-XSRFToken` header with 403, although it is a GET.
 */

export const API = 'aliquot/api/';

/** The server's base URL, absolute and ending in "/", or null if the page names none. */
export function pageBaseUrl(page: Document): string | null {
  try {
    const said: unknown = JSON.parse(
      page.getElementById('jupyter-config-data')?.textContent ?? 'null'
    );
    const base = (said as { baseUrl?: unknown } | null)?.baseUrl;
    return typeof base === 'string' && base !== '' ? absolute(base, page) : null;
  } catch {
    return null;
  }
}

export function absolute(base: string, page: Document): string {
  const url = new URL(base, page.baseURI);
  url.search = url.hash = '';
  return url.href.endsWith('/') ? url.href : `${url.href}/`;
}

export function socketUrl(base: string, parameters: Readonly<Record<string, string>>): string {
  const url = new URL(`${API}stream`, base);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.search = new URLSearchParams(parameters).toString();
  return url.href;
}

export function xsrfToken(cookies: string): string | null {
  const found = /(?:^|;\s*)_xsrf=([^;]*)/.exec(cookies);
  return found?.[1] === undefined ? null : decodeURIComponent(found[1]);
}

/** The server answered, and not with what was asked for. */
export class Answered extends Error {
  constructor(readonly status: number) {
    super(`the server answered ${status}`);
  }
}

const TIMEOUT_SECONDS = 10;

/** GET one JSON document of the server extension; throws Answered, or what fetch throws. */
export async function getJson(
  base: string,
  name: 'usage' | 'receipt',
  parameters: Readonly<Record<string, string>>
): Promise<unknown> {
  const url = new URL(`${API}${name}`, base);
  url.search = new URLSearchParams(parameters).toString();
  const token = xsrfToken(document.cookie);
  const response = await fetch(url.href, {
    credentials: 'same-origin',
    cache: 'no-store',
    // A login page answers 200: do not take it for figures.
    redirect: 'manual',
    headers: { Accept: 'application/json', ...(token === null ? {} : { 'X-XSRFToken': token }) },
    signal: AbortSignal.timeout(TIMEOUT_SECONDS * 1000)
  });
  if (!response.ok) {
    const sentOn = response.type === 'opaqueredirect' || Math.trunc(response.status / 100) === 3;
    throw new Answered(sentOn ? 403 : response.status);
  }
  return response.json();
}
