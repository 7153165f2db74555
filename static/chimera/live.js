// Keeps a page that the server rendered up to date: hears of news, fetches the part that changes.

import { setServerTime, startClocks } from "./clock.js";
import { Feed } from "./feed.js";
import { LogView } from "./logview.js";
import { morph } from "./morph.js";

const GATHER_MS = 60; // several events come at once when a phase ends
const BETWEEN_MS = 400;
const RETRY_MS = 2000;

const WORDS = { live: "Live", reconnecting: "Reconnecting…", refused: "Reload this page" };

const live = document.getElementById("live");
const logRoot = document.getElementById("log");
const logView = logRoot && new LogView(logRoot, live.dataset.logUrl);

let wanted = shown();
let isForced = false;
let isFetching = false;
let timer = null;
let fetchedAt = 0;

function shown() {
  return Number(live.dataset.seq);
}

// Fetch soon; a hidden page waits until somebody looks at it.
function refresh(delayMs = GATHER_MS) {
  if (timer !== null || isFetching || document.hidden) return;
  const pause = Math.max(delayMs, fetchedAt + BETWEEN_MS - Date.now());
  timer = setTimeout(fetchNews, pause);
}

async function fetchNews() {
  timer = null;
  isFetching = true;
  isForced = false;
  let isDone = false;
  try {
    isDone = await swap();
  } catch {
    // The server is away; the feed says so on the page, and this is tried again.
  }
  isFetching = false;
  fetchedAt = Date.now();
  if (!isDone) {
    isForced = true;
    refresh(RETRY_MS);
  } else if (isForced || wanted > shown()) {
    refresh();
  }
}

async function swap() {
  const answer = await fetch(live.dataset.fragment, { headers: { Accept: "text/html" } });
  if (answer.status === 404) location.assign("/");
  if (!answer.ok) return false;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const next = page.getElementById("live");
  if (!next) return false;
  const before = live.dataset.summary;
  morph(live, next);
  setServerTime(live.dataset.now);
  if (live.dataset.summary !== before) {
    document.getElementById("announce").textContent = live.dataset.summary;
  }
  readLog();
  return true;
}

function readLog(run = live.dataset.logRun) {
  logView?.read(run).catch(() => {}); // the next nudge or refresh tries again
}

function showState(state, failures = 0) {
  document.getElementById("feed").dataset.state = state;
  document.getElementById("feed-text").textContent = WORDS[state];
  if (failures > 2) force(); // no socket can be had, so ask now and then
  if (state === "live") readLog();
}

function force() {
  isForced = true;
  refresh();
}

const feed = new Feed({
  task: live.dataset.task ?? null,
  cursor: shown,
  onLook(seq, isNews) {
    if (seq < wanted) wanted = seq; // the numbers started anew
    if (!isNews) return;
    wanted = Math.max(wanted, seq);
    if (wanted !== shown()) force();
  },
  onLog: (run) => document.hidden || readLog(run),
  onState: showState,
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  if (isForced || wanted > shown()) refresh();
  readLog();
});

if (live.dataset.refreshS) setInterval(force, Number(live.dataset.refreshS) * 1000);
setServerTime(live.dataset.now);
startClocks();
showState("reconnecting");
feed.connect();
