/* The shown result: of which recording, under which address, and how people come to know of it.
   Runs after form.js. */
(() => {
  "use strict";
  const page = window.emotionPage;

  const boxes = ["result", "robustness-result"].map((id) => ({
    // of: path of the recording it is made from; null for one that was opened by its address.
    id, of: null, beginsWith: null, content: "", isAwaited: false, isRunning: false,
  }));

  // Of which recording each result is that was made on this visit, by its folder.
  const recordings = new Map();

  const inPage = (box) => document.getElementById(box.id);

  /* --- of another recording than that in the form: it says so and is grey ------------------------ */

  const isStale = (box) => box.of !== page.audioPath() && Boolean(inPage(box)?.querySelector("[data-of]"));

  const markStale = () => {
    for (const box of boxes) inPage(box)?.toggleAttribute("data-stale", isStale(box));
  };

  const begins = (id, path) => {
    const box = boxes.find((one) => one.id === id);
    Object.assign(box, { beginsWith: path, isAwaited: true, isRunning: false });
    hasMoved = false;
  };

  // A robustness test never stands below the result of another recording.
  const resultBeside = (shown) => {
    const [box] = boxes;
    return !isStale(box) && inPage(box)?.querySelector("[data-of]") ? shown : "";
  };

  /* --- its address --------------------------------------------------------------------------------- */

  const wanted = () => new URLSearchParams(location.search).get("result");

  const setAddress = (folder) => {
    if (wanted() === folder) return;
    const url = new URL(location.href);
    if (folder) url.searchParams.set("result", folder);
    else url.searchParams.delete("result");
    history.pushState(null, "", url);
  };

  addEventListener("popstate", () => document.getElementById("open")?.click());

  /* --- drawn: seen, heard, focused ----------------------------------------------------------------- */

  // In every language, as everything drawn: the switch changes it too.
  const announce = (words) => {
    const place = document.querySelector("[data-announcer]");
    if (place) place.innerHTML = words?.innerHTML ?? "";
  };

  const scrollTo = (section, block) => {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    section.scrollIntoView({ behavior: still ? "instant" : "smooth", block });
  };

  const isOutOfSight = ({ top, bottom }) => top > innerHeight || bottom < 0;

  // Whether people have scrolled or pressed anything since they pressed the button; what the page
  // scrolls itself does not count.
  let hasMoved = false;
  for (const act of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    addEventListener(act, () => { hasMoved = true; }, { passive: true, capture: true });
  }

  /* Gradio draws a result in steps, and what stands above it changes its height meanwhile: a scroll
     under way would end beside it. So it is looked at again when it has ended. */
  const bringUp = (section) => {
    scrollTo(section, "start");
    addEventListener("scrollend", () => {
      const { top } = section.getBoundingClientRect();
      if (!hasMoved && section.isConnected && Math.abs(top) > innerHeight / 4) bringUp(section);
    }, { once: true });
  };

  const showRunning = (box, section) => {
    page.release();
    if (box.isRunning) return;
    box.isRunning = true;
    announce(section.querySelector("h2"));
    const seen = section.getBoundingClientRect();
    if (box.isAwaited && seen.bottom > innerHeight) scrollTo(section, "center");
  };

  const focus = (section) => {
    // Who went elsewhere in the meantime stays there; the pressed button is gone.
    const at = document.activeElement;
    if (at && at !== document.body && !at.closest("#actions, #robustness, #robustness-result")) return;
    section.querySelector("[data-focus]")?.focus({ preventScroll: true });
  };

  const showFinished = (box, section) => {
    page.release();
    const seen = section.getBoundingClientRect();
    if (box.isAwaited) {
      // Who has scrolled elsewhere meanwhile is left there.
      const left = hasMoved && isOutOfSight(seen);
      const isHigh = box.id === "result" && seen.top >= 0 && seen.top < innerHeight / 4;
      if (!left && !isHigh) bringUp(section);
      focus(section);
      announce(section.querySelector("[data-announce]"));
    }
    const { shown = null } = section.dataset;
    if (box.isAwaited && shown) recordings.set(shown, box.beginsWith);
    box.of = box.isAwaited ? box.beginsWith : recordings.get(shown) ?? null;
    Object.assign(box, { isAwaited: false, isRunning: false });
    if (box.id === "result" && !section.matches(".empty:not([role])")) {
      setAddress(shown);
    }
    markStale();
  };

  const look = () => {
    for (const box of boxes) {
      const section = inPage(box)?.querySelector("section");
      // Gradio changes what is drawn in place: the element itself may stay the same.
      const content = section
        ? [section.className, section.role, section.dataset.shown].join(" ") : "";
      if (content === box.content) continue;
      box.content = content;
      if (section?.matches(".running")) showRunning(box, section);
      else if (section) showFinished(box, section);
    }
  };
  new MutationObserver(look).observe(document.documentElement, {
    childList: true, subtree: true, attributeFilter: ["class", "role", "data-shown"],
  });

  Object.assign(page, { markStale, begins, resultBeside, wanted });
})();
