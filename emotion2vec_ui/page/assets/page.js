/* Language, brightness, early presses and the player. Runs in <head>, before Gradio draws. */
(() => {
  "use strict";
  const root = document.documentElement;
  // Written by Python: the languages by code, the one wanted, names for parts of Gradio's.
  const { languages, wanted, parts: unnamed } = window.emotionPageFacts;
  const LANGUAGE_KEY = "emotion2vec.lang";
  const THEME_KEY = "emotion2vec.theme";
  const UPLOAD_WAIT_MS = 15 * 60 * 1000;

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

  /* --- the recording: which is ready, and whether one is on its way --------------------------- */

  let audio = null;
  let pendingSince = 0;
  let isRecording = false;
  const waiters = new Set();

  const tellWaiters = () => { for (const wake of [...waiters]) wake(); };

  const audioChanged = (value) => {
    audio = value || null;
    if (audio) pendingSince = 0;
    tellWaiters();
  };

  const recording = (is) => {
    isRecording = is;
    // The recording is uploaded after it stops.
    if (!is) pendingSince = Date.now();
    tellWaiters();
  };

  const inAudio = (target) => target instanceof Element && target.closest("#audio");
  document.addEventListener("change", (event) => {
    if (inAudio(event.target) && event.target.type === "file" && event.target.files.length) {
      pendingSince = Date.now();
    }
  }, true);
  document.addEventListener("drop", (event) => {
    if (inAudio(event.target)) pendingSince = Date.now();
  }, true);

  const stopRecording = () => {
    const button = document.querySelector("#audio .stop-button, #audio .stop-button-paused");
    if (button) button.click();
    return Boolean(button);
  };

  const sayWaiting = (is) => {
    const note = document.querySelector("[data-waiting]");
    if (note) note.hidden = !is;
  };

  // Gradio itself holds a click back while an upload runs; it only does not say so.
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#start, #robustness") && !audio && (isRecording || pendingSince)) {
      sayWaiting(true);
    }
  }, true);

  const waitForAudio = async () => {
    if (isRecording) stopRecording();
    const until = Date.now() + UPLOAD_WAIT_MS;
    while (!audio && (isRecording || pendingSince) && Date.now() < until) {
      await new Promise((resolve) => {
        waiters.add(resolve);
        setTimeout(resolve, 500);
      });
      waiters.clear();
      // Gradio says so in its own words when an upload fails.
      if (document.querySelector("#audio .error, .toast-body.error")) pendingSince = 0;
    }
    pendingSince = 0;
    return audio;
  };

  // Draws the eye to what is drawn below a long result: how far it is, and once what came of it.
  const lookBelow = (selector) => {
    const place = document.querySelector(selector);
    if (!place) return;
    let step = "";
    const look = new MutationObserver(() => {
      const card = place.querySelector("section");
      if (!card) return;
      const now = card.classList.contains("running") ? "running" : "done";
      if (now === step) return;
      // Who has scrolled elsewhere meanwhile is left there.
      const seen = card.getBoundingClientRect();
      const away = now === "done" && step && (seen.top > innerHeight || seen.bottom < 0);
      const block = now === "done" ? "start" : "center";
      if (!away) card.scrollIntoView({ behavior: "smooth", block });
      step = now;
      if (now === "done") look.disconnect();
    });
    look.observe(place, { childList: true, subtree: true });
  };

  const beforeStart = async (inputs, shownBelow = "") => {
    let [value, ...rest] = inputs;
    if (isRecording || (!value && pendingSince)) value = await waitForAudio();
    sayWaiting(false);
    rest[rest.length - 1] = lang;
    if (shownBelow) lookBelow(shownBelow);
    // One column: the result is below the fold.
    else if (matchMedia("(max-width: 900px)").matches) {
      document.querySelector("#right")?.scrollIntoView({ behavior: "smooth" });
    }
    return [value, ...rest];
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
      if (is !== row.classList.contains("now")) row.classList.toggle("now", is);
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

  window.emotionPage = { lang: () => lang, inLanguage, audioChanged, recording, beforeStart };

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
