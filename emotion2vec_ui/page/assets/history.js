/* The table of past results and what is opened above it. Runs once, when the table is drawn first;
   `element`, `trigger` and `watch` are Gradio's. */
const ticked = new Set();
const MAX_TICKED = 8;
let bar = null;  // above what is opened
let closed = "";  // the result that was open when "close" was pressed

const showTicked = () => {
  for (const box of element.querySelectorAll("[data-history-select]")) {
    box.checked = ticked.has(box.dataset.historySelect);
    box.disabled = !box.checked && ticked.size >= MAX_TICKED;
  }
  const count = element.querySelector("[data-history-count]");
  if (count) count.textContent = ticked.size;
  const compare = element.querySelector('[data-history="compare"]');
  if (compare) compare.disabled = ticked.size < 2;
};

element.addEventListener("change", (event) => {
  const folder = event.target.dataset?.historySelect;
  if (!folder) return;
  if (event.target.checked) ticked.add(folder);
  else ticked.delete(folder);
  showTicked();
});

const act = (event) => {
  if (event.target.closest("[data-history-select], td:first-child")) return;
  const on = event.target.closest("[data-history]");
  if (!on || on.disabled) return;
  const action = on.dataset.history;
  if (action === "delete") ticked.delete(on.dataset.value);
  closed = action === "close" ? bar?.dataset.historyOpened : "";
  const value = action === "compare" ? [...ticked].join(",") : on.dataset.value ?? "";
  trigger("click", { action, value });
};

element.addEventListener("click", act);

/* The opened result is another component; its clicks go the same way as those of the table. */
const opened = () => document.getElementById("history-opened");

const rowOf = (folder) => element.querySelector(`tr[data-value="${folder}"]`);

const showOpened = () => {
  for (const row of element.querySelectorAll("tr.now")) row.classList.remove("now");
  if (bar?.isConnected) rowOf(bar.dataset.historyOpened)?.classList.add("now");
};

watch("value", () => { showTicked(); showOpened(); });

/* The framed page follows the system's brightness, and here the page's own. */
const showBrightness = () => {
  const frame = opened()?.querySelector("[data-history-frame]");
  const dark = frame?.contentDocument?.querySelector("style[media]");
  if (dark) dark.media = document.body.classList.contains("dark") ? "screen" : "not all";
};

const fill = (frame) => {
  frame.addEventListener("load", () => {
    showBrightness();
    frame.style.height = `${frame.contentDocument.documentElement.scrollHeight + 4}px`;
  });
  frame.src = window.emotionPage.inLanguage(frame.dataset.historyFrame);
};

const backToRow = () => {
  const row = rowOf(closed);
  row?.scrollIntoView({ block: "center" });
  row?.querySelector("button").focus({ preventScroll: true });
};

new MutationObserver(() => {
  const now = opened()?.querySelector("[data-history-opened]") ?? null;
  if (now === bar) return;
  bar = now;
  showOpened();
  if (!bar) return backToRow();
  const frame = opened().querySelector("[data-history-frame]");
  if (frame) fill(frame);
  bar.focus({ preventScroll: true });
  bar.scrollIntoView({ behavior: "smooth", block: "start" });
}).observe(document.body, { childList: true, subtree: true });

document.addEventListener("click", (event) => {
  if (opened()?.contains(event.target)) act(event);
}, true);

document.addEventListener("click", (event) => {
  if (event.target.closest?.("[data-theme-switch]")) showBrightness();
});
