// Without this file, every page shows the same, but does not change until it is loaded again.
"use strict";

// Ages: "5 s ago" grows older between two updates.
function age(seconds) {
  const word = seconds < 0 ? "ahead" : "ago";
  const size = Math.abs(seconds);
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (size >= unit) return `${Math.floor(size / unit)} ${name} ${word}`;
  }
  return `${size} s ${word}`;
}
function showAges() {
  const now = Math.floor(Date.now() / 1000);
  for (const one of document.querySelectorAll("time[data-at]")) {
    const text = age(now - Number(one.dataset.at));
    if (one.textContent !== text) one.textContent = text;
  }
}
setInterval(showAges, 1000);

// Updates: the page asks for itself again, and replaces its live parts. Choices and the focus are kept.
// Between press and release of a button nothing is replaced: a click on a link that was replaced in between is lost.
let isAsking = false;
let isLate = false;
let isPressed = false;
async function refresh() {
  if (isAsking) { isLate = true; return; }
  isAsking = true;
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    const text = await response.text();
    if (isPressed) isLate = true;
    else if (response.ok) replaceParts(new DOMParser().parseFromString(text, "text/html"));
  } catch {
    // The server is out of reach; the stream reports when it is back.
  } finally {
    isAsking = false;
    catchUp();
  }
}
function catchUp() {
  if (isLate && !isPressed) { isLate = false; refresh(); }
}
addEventListener("pointerdown", () => { isPressed = true; }, true);
for (const name of ["pointerup", "pointercancel", "dragend", "blur"]) {
  addEventListener(name, () => setTimeout(() => { isPressed = false; catchUp(); }), true); // after the click
}
function replaceParts(fresh) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const part = fresh.getElementById(old.id);
    if (!part || part.innerHTML === old.dataset.source) continue;
    const source = part.innerHTML;
    const checked = new Set([...old.querySelectorAll("input:checked")].map((one) => one.value));
    const focused = old.contains(document.activeElement) ? place(document.activeElement) : null;
    const scrolled = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    old.replaceChildren(...document.adoptNode(part).childNodes);
    old.dataset.source = source;
    for (const one of old.querySelectorAll("input[type=checkbox]")) one.checked = checked.has(one.value);
    old.querySelectorAll(".scroll").forEach((one, number) => { one.scrollLeft = scrolled[number] || 0; });
    if (focused) [...old.querySelectorAll("a, button, input, .scroll")].find((one) => place(one) === focused)?.focus({ preventScroll: true });
  }
  showAges();
  document.dispatchEvent(new CustomEvent("room:updated"));
}
function place(element) {
  return `${element.tagName} ${element.getAttribute("href") || element.value || element.className}`;
}
// The answer to a form has no address from which it could be read again.
if (document.querySelector("[data-live]") && !("fixed" in document.documentElement.dataset)) {
  let seen = null;
  function follow() {
    const stream = new EventSource("/live");
    stream.addEventListener("hello", (event) => { if (seen !== null && seen !== event.data) refresh(); seen = event.data; });
    stream.addEventListener("changed", (event) => { seen = event.data; refresh(); });
    stream.addEventListener("error", () => {
      // A browser connects again by itself after a lost connection, but not after an error such as 503: too many viewers.
      if (stream.readyState !== EventSource.CLOSED) return;
      seen = "";
      setTimeout(follow, 5000 + 5000 * Math.random());
    });
  }
  follow();
}

// All warnings of a page at once.
document.documentElement.classList.add("scripted");
document.addEventListener("change", (event) => {
  if (event.target.id !== "select-all") return;
  for (const one of document.querySelectorAll("input[name=warning]")) one.checked = event.target.checked;
});

// Sign-in with a browser wallet (EIP-1193).
const button = document.getElementById("wallet-button");
const state = document.getElementById("wallet-state");
function hex(text) {
  return "0x" + [...new TextEncoder().encode(text)].map((one) => one.toString(16).padStart(2, "0")).join("");
}
async function post(path, fields) {
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.why || answer.what);
  return answer;
}
if (button && window.ethereum) {
  button.hidden = false;
  state.textContent = "The wallet shows the text that you sign.";
  button.addEventListener("click", async () => {
    try {
      const [account] = await window.ethereum.request({ method: "eth_requestAccounts" });
      const { text, ...values } = await post("/sign-in/text", { account });
      const signature = await window.ethereum.request({ method: "personal_sign", params: [hex(text), account] });
      const { address } = await post("/sign-in/answer", { ...values, signature });
      location.href = new URL(address).pathname;
    } catch (error) {
      state.textContent = `The sign-in failed: ${error.message}`;
    }
  });
} else if (button) {
  state.textContent = "This browser has no wallet. Use the command.";
}

// A prepared transaction, sent by a browser wallet.
const send = document.getElementById("send-button");
const sent = document.getElementById("send-state");
if (send && window.ethereum) {
  send.hidden = false;
  sent.textContent = "The wallet shows the transaction before it signs.";
  send.addEventListener("click", async () => {
    const { chainId, to, data, value } = JSON.parse(send.dataset.transaction);
    try {
      await window.ethereum.request({ method: "eth_requestAccounts" });
      await window.ethereum.request({ method: "wallet_switchEthereumChain", params: [{ chainId: "0x" + chainId.toString(16) }] });
      const hash = await window.ethereum.request({ method: "eth_sendTransaction", params: [{ from: send.dataset.account, to, data, value }] });
      sent.textContent = `Sent: ${hash}. The pages show it when its block is confirmed.`;
      send.disabled = true;
    } catch (error) {
      sent.textContent = `Not sent: ${error.message}`;
    }
  });
} else if (send) {
  sent.textContent = "This browser has no wallet. Use the command.";
}
