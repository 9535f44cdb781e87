// Asks the server for the page again when something happens, and every few seconds. The server writes all of it: nothing
// here makes markup out of data.
"use strict";

const EVERY = 5000; // ms between two looks when nothing happens
const ATMOST = 700; // ms between two looks when much happens
let token = sessionStorage.getItem("token");
let planned = null;
let looking = false;

const headers = () => (token ? { authorization: "Bearer " + token } : {});

function plan(delay) {
  if (planned !== null) return;
  planned = setTimeout(() => {
    planned = null;
    look();
  }, delay);
}

async function look() {
  if (document.hidden || looking) return;
  looking = true;
  try {
    const answer = await fetch("/", { headers: headers(), cache: "no-store" });
    if (answer.status === 401 && token) {
      token = null;
      sessionStorage.removeItem("token");
    } else if (answer.ok) {
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    }
    document.getElementById("connection").hidden = answer.ok || answer.status === 401;
  } catch {
    document.getElementById("connection").hidden = false;
  } finally {
    looking = false;
  }
}

function show(page) {
  // A token that is being typed is not taken away.
  const typing = document.activeElement && document.activeElement.form;
  for (const id of ["live", "state"]) {
    const [now, next] = [document.getElementById(id), page.getElementById(id)];
    if (next && now && !(typing && now.contains(typing))) now.replaceWith(document.importNode(next, true));
  }
  const version = page.querySelector(".version");
  if (version) document.querySelector(".version").textContent = version.textContent;
  dress();
}

function dress() {
  const form = document.getElementById("token");
  if (!form) return;
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token = new FormData(form).get("token").trim();
    sessionStorage.setItem("token", token);
    form.reset();
    document.activeElement.blur();
    look();
    follow();
  });
}

// The stream only says that something happened; what it is stands in the page.
let stream = null;
async function follow() {
  if (stream) stream.abort();
  const mine = (stream = new AbortController());
  while (!mine.signal.aborted) {
    try {
      const answer = await fetch("/v1/events", { headers: headers(), signal: mine.signal });
      if (answer.status === 401) return;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        if (piece.value.includes("data:")) plan(ATMOST);
      }
    } catch {
      // Tried again below.
    }
    await new Promise((done) => setTimeout(done, 2000));
  }
}

dress();
if (token) look();
follow();
setInterval(() => plan(0), EVERY);
document.addEventListener("visibilitychange", () => plan(0));
