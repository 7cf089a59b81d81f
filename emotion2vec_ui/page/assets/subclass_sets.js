/* The sets of sub-classes: tells what was pressed, and moves the focus to what it opened. Runs once;
   `element`, `trigger` and `watch` are Gradio's. */
let shown = "";  // the set whose card is open
let closed = "";  // the one that was

element.addEventListener("click", (event) => {
  const on = event.target.closest("[data-subclass]");
  if (on) trigger("click", { action: on.dataset.subclass, value: on.dataset.value ?? "" });
});

/* From the form, which is another component. */
document.addEventListener("subclass-trained", (event) => {
  trigger("click", { action: event.detail ? "trained" : "list", value: event.detail });
});

const focusOn = (target, options) => {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  target.focus({ preventScroll: true });
  target.scrollIntoView({ behavior: still ? "auto" : "smooth", ...options });
};

new MutationObserver(() => {
  const card = element.querySelector("[data-subclass-card]");
  const now = card?.dataset.subclassCard ?? "";
  if (now === shown) return;
  [closed, shown] = [shown, now];
  if (card) return focusOn(card, { block: "start" });
  element.querySelector(`[data-subclass="open"][data-value="${CSS.escape(closed)}"]`)?.focus();
}).observe(element, { childList: true, subtree: true });
