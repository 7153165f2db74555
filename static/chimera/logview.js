// The live log: fetched by byte offset, followed until its reader scrolls up, bounded in the page.

const MAX_LINES = 2000;
const NEAR_PX = 40;

export class LogView {
  constructor(root, url) {
    this.url = url;
    this.box = root.querySelector("[data-part=lines]");
    this.label = root.querySelector("[data-part=run]");
    this.button = root.querySelector("[data-part=follow]");
    this.run = this.box.dataset.run;
    this.offset = Number(this.box.dataset.offset);
    this.isFollowing = true;
    this.isReading = false;
    this.isWanted = false;
    this.box.addEventListener("scroll", () => this.follow(this.isAtEnd()), { passive: true });
    this.button.addEventListener("click", () => {
      this.follow(true);
      this.toEnd();
    });
    this.toEnd();
  }

  // Read what came since; `run` is the newest try, whose log starts anew.
  async read(run) {
    this.isWanted = true;
    if (this.isReading) return;
    this.isReading = true;
    try {
      while (this.isWanted) {
        this.isWanted = false;
        await this.readToEnd();
        if (run && run !== this.run) {
          this.start(run);
          this.isWanted = true;
        }
      }
    } finally {
      this.isReading = false;
    }
  }

  start(run) {
    this.settleRest();
    if (this.run) this.append(`── try ${run} ──`, "line between");
    this.run = run;
    this.offset = 0;
    this.label.textContent = `try ${run}`;
  }

  async readToEnd() {
    if (!this.run) return;
    for (;;) {
      const answer = await fetch(`${this.url}?run=${this.run}&offset=${this.offset}`);
      if (!answer.ok) return;
      const piece = await answer.json();
      this.show(piece);
      if (!piece.has_more) return;
    }
  }

  show(piece) {
    this.offset = piece.next_offset;
    const rest = this.box.querySelector(".rest");
    if (rest && piece.rest && !piece.lines.length) {
      if (rest.textContent !== piece.rest) rest.textContent = piece.rest;
    } else {
      rest?.remove();
      for (const line of piece.lines) this.append(line, "line");
      if (piece.rest) this.append(piece.rest, "line rest");
    }
    while (this.box.childElementCount > MAX_LINES) this.box.firstElementChild.remove();
    if (this.isFollowing) this.toEnd();
  }

  settleRest() {
    this.box.querySelector(".rest")?.classList.remove("rest");
  }

  append(text, name) {
    const line = document.createElement("div");
    line.className = name;
    line.textContent = text;
    this.box.append(line);
  }

  isAtEnd() {
    return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < NEAR_PX;
  }

  follow(isFollowing) {
    this.isFollowing = isFollowing;
    this.button.hidden = isFollowing;
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
  }
}
