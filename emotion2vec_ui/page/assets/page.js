/* Language, brightness, links and the player. Runs in <head>, before Gradio draws. */
(() => {
  "use strict";
  const root = document.documentElement;
  // Written by Python: the languages by code, the one wanted, names for parts of Gradio's.
  const { languages, wanted, parts: unnamed } = window.emotionPageFacts;
  const LANGUAGE_KEY = "emotion2vec.lang";
  const THEME_KEY = "emotion2vec.theme";

  const stored = (key) => {
    try { return localStorage.getItem(key); } catch { return null; }
  };
  const store = (key, value) => {
    try { localStorage.setItem(key, value); } catch { /* private mode: for this visit only */ }
  };

  /* --- language: ours by an attribute, Gradio's own words by its locale ------------------- */

  const known = (code) => (Object.hasOwn(languages, code ?? "") ? code : null);

  const browserLanguage = () => (navigator.languages || [navigator.language])
    .map((tag) => known(tag.toLowerCase().split("-")[0])).find(Boolean);

  let lang = known(stored(LANGUAGE_KEY)) || known(wanted) || browserLanguage() || "en";

  // Parts of Gradio's components that have no words, or only English ones, get them here.
  const nameParts = () => {
    for (const { selector, attribute, words } of unnamed) {
      for (const part of document.querySelectorAll(selector)) {
        if (part.getAttribute(attribute) !== words[lang]) part.setAttribute(attribute, words[lang]);
      }
    }
  };

  const showLanguage = () => {
    root.dataset.lang = lang;
    root.lang = languages[lang];
    for (const button of document.querySelectorAll("[data-set-lang]")) {
      button.setAttribute("aria-pressed", String(button.dataset.setLang === lang));
    }
    nameParts();
  };

  // Gradio keeps its locale in a module that has no public door; the loaded one is found by name.
  const changeGradioLocale = async () => {
    const entry = performance.getEntriesByType("resource")
      .map((one) => one.name).find((name) => /\/assets\/core-[^/]*\.js$/.test(name));
    if (!entry) return false;
    try {
      const core = await import(entry);
      await core.changeLocale(languages[lang]);
      return true;
    } catch {
      return false;
    }
  };

  const setLanguage = (chosen) => {
    lang = chosen;
    store(LANGUAGE_KEY, lang);
    showLanguage();
    changeGradioLocale();
  };

  /* --- light and dark ------------------------------------------------------------------------ */

  const setDark = (dark) => document.body.classList.toggle("dark", dark);

  const applyStoredTheme = () => {
    const theme = stored(THEME_KEY);
    if (theme) setDark(theme === "dark");
  };

  /* --- links to what is written in one language: exports, reports ---------------------------------- */

  const inLanguage = (address) => {
    const url = new URL(address, document.baseURI);
    url.searchParams.set("lang", lang);
    return url.href;
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-lang-link]");
    if (link) link.href = inLanguage(link.href);
  }, true);

  /* --- the player ---------------------------------------------------------------------------------- */

  const parts = (element) => {
    const box = element.closest(".player");
    return box && { box, sound: box.querySelector("audio"), duration: Number(box.dataset.duration) };
  };

  const clock = (s) => {
    const tenths = Math.round(10 * s);
    const pad = (n) => String(n).padStart(2, "0");
    if (tenths < 600) return `${(tenths / 10).toFixed(1)} s`;
    if (tenths < 36000) {
      return `${Math.floor(tenths / 600)}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
    }
    const whole = Math.round(s);
    return `${Math.floor(whole / 3600)}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}`;
  };

  const rowsOf = (() => {
    let result = null;
    let rows = [];
    return (box) => {
      const now = box.closest(".result");
      if (now !== result) {
        result = now;
        rows = [...now.querySelectorAll("tr[data-from]")].map((row) => ({
          row, from: Number(row.dataset.from), to: Number(row.dataset.to),
        }));
      }
      return rows;
    };
  })();

  // Within its own box only: the page stays where it is.
  const keepInView = (row) => {
    const box = row.closest(".table");
    const { top, bottom } = row.getBoundingClientRect();
    const seen = box.getBoundingClientRect();
    const first = seen.top + row.closest("table").tHead.offsetHeight;
    if (top < first) box.scrollTop -= first - top;
    else if (bottom > seen.bottom) box.scrollTop += bottom - seen.bottom;
  };

  const paint = ({ box, sound, duration }) => {
    const now = Math.min(sound.currentTime, duration);
    const stack = box.querySelector("[data-seek]");
    box.querySelector(".playhead").style.setProperty("--at", duration ? now / duration : 0);
    stack.setAttribute("aria-valuenow", now.toFixed(1));
    box.querySelector("[data-now]").textContent = clock(now);
    let words = "";
    for (const { row, from, to } of rowsOf(box)) {
      const is = now >= from && now < to && (now > 0 || !sound.paused);
      if (is && !words) words = row.cells[2].innerHTML;
      if (is !== row.classList.contains("now")) {
        row.classList.toggle("now", is);
        if (is) keepInView(row);
      }
    }
    const current = box.querySelector("[data-current]");
    if (current.dataset.said !== words) {
      current.dataset.said = words;
      current.innerHTML = words;
    }
  };

  const follow = (player) => {
    const step = () => {
      if (!player.box.isConnected) return;
      paint(player);
      if (!player.sound.paused) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  };

  const seek = (player, seconds, play) => {
    player.sound.currentTime = Math.max(0, Math.min(seconds, player.duration - 0.01));
    paint(player);
    if (play) player.sound.play().catch(() => {});
  };

  for (const name of ["play", "pause", "ended", "seeked"]) {
    document.addEventListener(name, (event) => {
      const player = event.target instanceof HTMLMediaElement && parts(event.target);
      if (!player) return;
      player.box.classList.toggle("playing", !player.sound.paused);
      follow(player);
    }, true);
  }

  const seekByPointer = (event, stack) => {
    const area = stack.getBoundingClientRect();
    const player = parts(stack);
    seek(player, ((event.clientX - area.left) / area.width) * player.duration, false);
  };

  document.addEventListener("pointerdown", (event) => {
    const stack = event.target.closest?.("[data-seek]");
    if (!stack || event.button) return;
    seekByPointer(event, stack);
    const move = (moved) => seekByPointer(moved, stack);
    const end = () => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  });

  document.addEventListener("keydown", (event) => {
    const stack = event.target.closest?.("[data-seek]");
    if (!stack) return;
    const player = parts(stack);
    const step = Math.max(0.1, player.duration / 50);
    const at = player.sound.currentTime;
    const to = {
      ArrowRight: at + step, ArrowLeft: at - step, Home: 0, End: player.duration,
      PageUp: at + 5 * step, PageDown: at - 5 * step,
    }[event.key];
    if (to !== undefined) seek(player, to, false);
    else if (event.key === " ") toggle(player);
    else return;
    event.preventDefault();
  });

  const toggle = ({ sound }) => {
    if (sound.paused) sound.play().catch(() => {});
    else sound.pause();
  };

  /* --- one listener for every button that is drawn as HTML ------------------------------------------ */

  document.addEventListener("click", (event) => {
    const on = (selector) => event.target.closest?.(selector);
    const language = on("[data-set-lang]");
    if (language) return setLanguage(language.dataset.setLang);
    if (on("[data-theme-switch]")) {
      const dark = !document.body.classList.contains("dark");
      store(THEME_KEY, dark ? "dark" : "light");
      return setDark(dark);
    }
    const press = on("[data-press]");
    if (press) return document.getElementById(press.dataset.press)?.click();
    const play = on("[data-play]");
    if (play) return toggle(parts(play));
    const jump = on("[data-at]");
    const box = jump && document.querySelector(".result .player");
    if (box) seek(parts(box), Number(jump.dataset.at), true);
  });

  /* --- start ------------------------------------------------------------------------------------------- */

  window.emotionPage = { lang: () => lang, inLanguage };

  showLanguage();
  const whenDrawn = new MutationObserver(() => {
    if (!document.querySelector("[data-set-lang]")) return;
    whenDrawn.disconnect();
    showLanguage();
    applyStoredTheme();
    changeGradioLocale();
  });
  whenDrawn.observe(root, { childList: true, subtree: true });
  // Gradio draws its parts when it likes, and anew.
  if (unnamed.length) new MutationObserver(nameParts).observe(root, { childList: true, subtree: true });
})();
