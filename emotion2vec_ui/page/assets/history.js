/* The table of past results and what is opened below it. Runs once, when the table is drawn first;
   `element`, `trigger` and `watch` are Gradio's. */
const ticked = new Set();
const MAX_TICKED = 8;

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
  const value = action === "compare" ? [...ticked].join(",") : on.dataset.value ?? "";
  trigger("click", { action, value });
};

element.addEventListener("click", act);

watch("value", showTicked);

/* The opened result is another component; its clicks go the same way as those of the table. */
const opened = () => document.getElementById("history-opened");

new MutationObserver(() => {
  const bar = opened()?.querySelector("[data-history-opened]:not([data-seen])");
  if (!bar) return;
  bar.dataset.seen = "";
  for (const row of element.querySelectorAll("tr[data-value]")) row.classList.remove("now");
  const frame = opened().querySelector("[data-history-frame]");
  if (frame) {
    frame.addEventListener("load", () => {
      frame.style.height = `${frame.contentDocument.documentElement.scrollHeight + 4}px`;
    });
    frame.src = window.emotionPage.inLanguage(frame.dataset.historyFrame);
  }
  bar.scrollIntoView({ behavior: "smooth", block: "start" });
}).observe(document.body, { childList: true, subtree: true });

document.addEventListener("click", (event) => {
  if (opened()?.contains(event.target)) act(event);
}, true);
