// The socket of the live feed. It says where to look; what is there, the page fetches.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10000;
const REFUSED = 4400;

export class Feed {
  // `cursor()` returns the number of the last event that the page shows.
  constructor({ task, cursor, onLook, onLog, onState }) {
    Object.assign(this, { task, cursor, onLook, onLog, onState });
    this.failures = 0;
    this.timer = null;
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
    addEventListener("pagehide", () => this.socket?.close());
    addEventListener("pageshow", (event) => event.persisted && this.connect());
  }

  connect() {
    clearTimeout(this.timer);
    this.timer = null;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws/feed/`);
    this.socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ after: this.cursor(), task: this.task }));
    socket.onmessage = (event) => this.take(socket, JSON.parse(event.data));
    socket.onclose = (event) => this.socket === socket && this.lose(event.code);
  }

  take(socket, message) {
    if (this.failures || !this.isLive) {
      this.failures = 0;
      this.isLive = true;
      this.onState("live");
    }
    if (message.type === "log") this.onLog(String(message.run));
    else this.onLook(message.seq, message.type === "resync" || message.events.length > 0);
    socket.send(JSON.stringify({ seen: message.n }));
  }

  lose(code) {
    this.isLive = false;
    if (code === REFUSED) {
      this.onState("refused");
      return;
    }
    this.failures += 1;
    this.onState("reconnecting", this.failures);
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(this.failures - 1, 6));
    this.timer = setTimeout(() => this.connect(), wait * (0.75 + Math.random() / 2));
  }

  hurry() {
    if (this.timer !== null) this.connect();
  }
}
