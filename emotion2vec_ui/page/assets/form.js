/* The form: which recording is ready or on its way, what is pressed, and what is said beside it.
   Runs after page.js. */
(() => {
  "use strict";
  const page = window.emotionPage;
  const { take } = window.emotionPageFacts;
  const UPLOAD_WAIT_MS = 15 * 60 * 1000;

  // Each sentence is drawn already, hidden.
  const say = (what, is) => {
    for (const note of document.querySelectorAll(`[data-says="${what}"]`)) note.hidden = !is;
  };

  /* --- the recording: which is ready, and whether one is on its way --------------------------- */

  let audio = null;
  let pendingSince = 0;
  let isRecording = false;
  const waiters = new Set();

  const tellWaiters = () => { for (const wake of [...waiters]) wake(); };

  const audioChanged = (value) => {
    audio = value || null;
    if (audio) {
      pendingSince = 0;
      say("upload-failed", false);
    }
    tellWaiters();
    page.markStale();
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

  const waitForAudio = async () => {
    if (isRecording) stopRecording();
    const until = Date.now() + UPLOAD_WAIT_MS;
    while (!audio && (isRecording || pendingSince) && Date.now() < until) {
      await new Promise((resolve) => {
        waiters.add(resolve);
        setTimeout(resolve, 500);
      });
      waiters.clear();
      // Gradio says so in its own words when an upload is refused.
      if (document.querySelector("#audio .error, .toast-body.error")) pendingSince = 0;
    }
    pendingSince = 0;
    return audio;
  };

  /* --- pressed: once, also by a double click or while the upload runs -------------------------- */

  const RELEASE_MS = 3000;
  let isPressed = false;
  const release = () => { isPressed = false; };

  // Gradio itself holds a click back while an upload runs; it only does not say so.
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("#start, #robustness")) return;
    if (isPressed || event.detail > 1) {
      event.stopImmediatePropagation();
      event.preventDefault();
      return;
    }
    isPressed = true;
    if (!audio && (isRecording || pendingSince)) say("uploading", true);
  }, true);

  const beforeStart = async (inputs, box) => {
    let [value, ...rest] = inputs;
    if (isRecording || (!value && pendingSince)) value = await waitForAudio();
    say("uploading", false);
    // What is drawn next releases it; this is for when nothing comes.
    setTimeout(release, value ? RELEASE_MS : 0);
    rest[rest.length - 1] = page.lang();
    page.begins(box, value?.path ?? null);
    return [value, ...rest];
  };

  /* --- uploads: named, and one that breaks off is said and can be sent again ------------------ */

  let lost = null;

  const part = (selector) => document.querySelector(`#audio ${selector}`);

  const uploadFailed = (file) => {
    lost = file;
    pendingSince = 0;
    say("uploading", false);
    say("upload-failed", true);
    release();
    tellWaiters();
    // Gradio shows an empty player in its place.
    setTimeout(() => part(".top-panel button.icon-button:last-of-type")?.click(), 100);
  };

  const uploadAgain = async () => {
    say("upload-failed", false);
    part(".source-selection button:first-of-type")?.click();
    let input = null;
    for (let tries = 0; !input && tries < 50; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      input = part("input[type=file]");
    }
    if (!input) return;
    const files = new DataTransfer();
    files.items.add(lost);
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };

  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-upload-again]")) uploadAgain();
  });

  // Gradio calls every take of the microphone "audio.wav".
  const named = (file) => {
    if (file.name !== "audio.wav" || !part(".source-selection button:last-of-type.selected")) return file;
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
    return new File([file], `${take[page.lang()]} ${time}.wav`, { type: file.type });
  };

  const send = window.fetch.bind(window);
  window.fetch = async (address, options) => {
    const file = options?.body instanceof FormData && options.body.get("files");
    if (!(file instanceof Blob)) return send(address, options);
    const body = new FormData();
    const sent = named(file);
    body.append("files", sent, sent.name);
    try {
      const answer = await send(address, { ...options, body });
      if (answer.status >= 500) uploadFailed(sent);
      return answer;
    } catch (error) {
      uploadFailed(sent);
      throw error;
    }
  };

  /* --- the microphone: why there is none ---------------------------------------------------------- */

  const WHY = { NotFoundError: "missing", OverconstrainedError: "missing", NotReadableError: "busy" };
  const devices = navigator.mediaDevices;

  const sayMicrophone = (why) => {
    for (const one of ["refused", "missing", "busy", "insecure"]) say(`microphone-${one}`, one === why);
  };

  if (devices) {
    const ask = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async (wanted) => {
      try {
        const stream = await ask(wanted);
        sayMicrophone(null);
        return stream;
      } catch (error) {
        sayMicrophone(WHY[error.name] ?? "refused");
        throw error;
      }
    };
  }

  document.addEventListener("click", (event) => {
    const source = event.target.closest?.("#audio .source-selection button");
    // Browsers have no microphone for pages that came over plain HTTP from another machine.
    if (source) sayMicrophone(!devices && source.matches(":last-of-type") ? "insecure" : null);
  }, true);

  /* --- start ------------------------------------------------------------------------------------------- */

  // Gradio gives each a name of its own, again at each change: arrow keys would not move between.
  const joinRadios = new MutationObserver(() => {
    for (const radio of document.querySelectorAll("#granularity input[type=radio]")) {
      if (radio.name !== "granularity") radio.name = "granularity";
    }
  });
  joinRadios.observe(document.documentElement, {
    childList: true, subtree: true, attributeFilter: ["name"],
  });

  Object.assign(page, {
    audioChanged, recording, beforeStart, release, audioPath: () => audio?.path ?? null,
  });
})();
