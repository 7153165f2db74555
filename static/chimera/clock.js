// Keeps ages and elapsed times going between two looks at the server.

let skewMs = 0;

export function setServerTime(iso) {
  const server = Date.parse(iso);
  if (!Number.isNaN(server)) skewMs = server - Date.now();
}

export function startClocks() {
  setInterval(tick, 1000);
}

function tick() {
  if (document.hidden) return;
  const now = Date.now() + skewMs;
  for (const clock of document.querySelectorAll(".clock[data-since]")) {
    const text = duration((now - Date.parse(clock.dataset.since)) / 1000);
    const shown = clock.dataset.mode === "age" ? `${text} ago` : text;
    if (clock.textContent !== shown) clock.textContent = shown;
  }
}

// The same words as tasks/dashboard/plain.py: duration.
function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}
