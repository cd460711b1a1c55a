/*
 * Connection: figures from the server extension, for as long as somebody can see them.
 *
 * WebSocket first: a push keeps no idle server alive and holds none of the browser's six
 * HTTP connections. While there is none, a poll every five seconds; both are retried with
 * growing pauses, for ever. A hidden tab has neither. A server without a GPU will not get
 * one before it restarts, so after its first answer the line rests.
 */

import { Answered, getJson, socketUrl } from './server';
import { readUsage, UnreadableAnswer, type Usage } from './sample';

/** lost: no answer; absent: no such extension; refused: not signed in; other: versions differ. */
export type Fault = 'lost' | 'absent' | 'refused' | 'other';

export interface Listener {
  usage(usage: Usage): void;
  /** null when figures come again. */
  fault(fault: Fault | null): void;
}

export const POLL_SECONDS = 5;
export const LONGEST_PAUSE_SECONDS = 60;
// The sampler ticks once a second. A socket this quiet is one whose other end is gone, as
// after a laptop's sleep.
export const QUIET_SECONDS = 30;

export class Connection {
  private socket: WebSocket | null = null;
  private socketTimer: number | undefined;
  private pollTimer: number | undefined;
  private quietTimer: number | undefined;
  private socketFailures = 0;
  private pollFailures = 0;
  private sequence = 0;
  private fault: Fault | null = null;
  private running = false;
  private resting = false;
  // A poll that ends after a pause or a close belongs to a life that is over.
  private life = 0;
  private readonly onVisibility = () => (document.hidden ? this.pause() : this.resume());

  constructor(
    private readonly base: string,
    private readonly lang: string,
    private readonly listener: Listener
  ) {
    document.addEventListener('visibilitychange', this.onVisibility);
    if (!document.hidden) {
      this.resume();
    }
  }

  close(): void {
    document.removeEventListener('visibilitychange', this.onVisibility);
    this.pause();
  }

  private resume(): void {
    if (this.running) {
      return;
    }
    this.running = true;
    this.resting = false;
    this.socketFailures = this.pollFailures = 0;
    this.openSocket();
  }

  private pause(): void {
    this.running = false;
    this.hangUp();
  }

  private hangUp(): void {
    this.life += 1;
    clearTimeout(this.socketTimer);
    clearTimeout(this.pollTimer);
    clearTimeout(this.quietTimer);
    this.pollTimer = this.socketTimer = undefined;
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  private openSocket(): void {
    let socket: WebSocket;
    try {
      socket = new WebSocket(
        socketUrl(this.base, { lang: this.lang, since: String(this.sequence) })
      );
    } catch {
      this.socketGone();
      return;
    }
    this.socket = socket;
    this.watch(socket);
    socket.onmessage = (event) => {
      if (socket === this.socket) {
        this.watch(socket);
        this.take(() => JSON.parse(String(event.data)) as unknown, 'socket');
      }
    };
    socket.onclose = () => {
      if (socket === this.socket) {
        this.socket = null;
        this.socketGone();
      }
    };
  }

  private watch(socket: WebSocket): void {
    clearTimeout(this.quietTimer);
    this.quietTimer = window.setTimeout(() => {
      if (socket === this.socket) {
        this.socket = null;
        socket.close();
        this.socketGone();
      }
    }, QUIET_SECONDS * 1000);
  }

  private socketGone(): void {
    if (!this.running || this.resting) {
      return;
    }
    clearTimeout(this.quietTimer);
    this.socketFailures += 1;
    this.socketTimer = window.setTimeout(() => this.openSocket(), pause(1, this.socketFailures));
    if (this.pollTimer === undefined) {
      this.pollTimer = window.setTimeout(() => void this.poll(), 0);
    }
  }

  private async poll(): Promise<void> {
    const life = this.life;
    try {
      const answer = await getJson(this.base, 'usage', {
        lang: this.lang,
        since: String(this.sequence)
      });
      if (life === this.life) {
        this.take(() => answer, 'poll');
      }
    } catch (error) {
      if (life === this.life) {
        this.pollFailures += 1;
        this.say(faultOf(error));
      }
    }
    if (life === this.life && this.running && !this.resting) {
      const wait = pause(POLL_SECONDS, this.pollFailures);
      this.pollTimer = window.setTimeout(() => void this.poll(), wait);
    }
  }

  private take(answer: () => unknown, from: 'socket' | 'poll'): void {
    let usage: Usage;
    try {
      usage = readUsage(answer());
    } catch {
      this.say('other');
      return;
    }
    this.sequence = usage.sequence;
    this.pollFailures = 0;
    if (from === 'socket') {
      this.socketFailures = 0;
      clearTimeout(this.pollTimer);
      this.pollTimer = undefined;
    }
    this.say(null);
    if (usage.state === 'no_gpu') {
      this.resting = true;
      this.hangUp();
    }
    this.listener.usage(usage);
  }

  private say(fault: Fault | null): void {
    if (fault !== this.fault) {
      this.fault = fault;
      this.listener.fault(fault);
    }
  }
}

function faultOf(error: unknown): Fault {
  if (error instanceof Answered) {
    if (error.status === 401 || error.status === 403) {
      return 'refused';
    }
    return error.status === 404 ? 'absent' : 'lost';
  }
  return error instanceof UnreadableAnswer || error instanceof SyntaxError ? 'other' : 'lost';
}

/** Milliseconds before the next try: doubled for each failure, with a little chance in it. */
function pause(seconds: number, failures: number): number {
  const longest = Math.min(seconds * 2 ** Math.max(failures - 1, 0), LONGEST_PAUSE_SECONDS);
  // A hundred tabs must not come back in the same instant when a hub does.
  return longest * (0.8 + 0.4 * Math.random()) * 1000;
}
