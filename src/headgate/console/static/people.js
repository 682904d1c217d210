// Keys, teams, experiments: forms become JSON, what the server says is shown as text.
const problem = document.querySelector("#problem"), secret = document.querySelector("#secret");

async function post(path, body) {
  problem.textContent = "";
  const reply = await fetch(path, {
    method: "POST", body: JSON.stringify(body),
    headers: { "content-type": "application/json", "x-csrf-token": document.querySelector("meta[name=csrf]").content },
  });
  const found = await reply.json();
  if (!reply.ok) { problem.textContent = found.error?.message ?? `Error ${reply.status}`; return; }
  await refresh();
  if (found.secret) {
    document.querySelector("#secret-text").textContent = found.secret;
    secret.hidden = false;
    secret.scrollIntoView({ block: "nearest" });
  }
}

// What lives anew, without a reload: the secret stays on the page, and only there.
async function refresh() {
  const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
  const what = document.querySelector("#live") ? "#live" : "main table";
  document.querySelector(what).replaceWith(document.importNode(page.querySelector(what), true));
}

function values(form) {
  const out = {};
  for (const field of form.elements) {
    const text = field.value.trim();
    if (!field.name || !text) continue;
    const value = "list" in field.dataset ? text.split(",").map((one) => one.trim()).filter(Boolean)
      : "number" in field.dataset ? Number(text.replaceAll("_", "").replaceAll(",", "")) : text;
    const [first, second] = field.name.split(".");
    if (second) (out[first] ??= {})[second] = value; else out[first] = value;
  }
  return out;
}

document.addEventListener("submit", async (event) => {
  const path = event.target.dataset.change;
  if (!path) return;
  event.preventDefault();
  if (secret) secret.hidden = true;
  await post(path, values(event.target));
  if (!problem.textContent) event.target.reset();
});
// Sent before there is a listener, what was filled in would go into the URL.
for (const button of document.querySelectorAll("form[data-change] button[disabled]")) button.disabled = false;

document.addEventListener("click", async (event) => {
  const { post: path, sure } = event.target.dataset;
  if (path && confirm(sure)) await post(path, {});
  if (event.target.id === "copy") await navigator.clipboard?.writeText(document.querySelector("#secret-text").textContent);
});
