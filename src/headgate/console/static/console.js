// The playground: reads the stream of chat chunks and shows text as text, never as markup.
const form = document.querySelector("#play");
if (form) {
  const answer = document.querySelector("#answer"), thinking = document.querySelector("#thinking"), about = document.querySelector("#about");
  const stop = document.querySelector("#stop");
  let abort = null;
  stop.addEventListener("click", () => abort?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    abort?.abort();
    abort = new AbortController();
    answer.textContent = thinking.textContent = about.textContent = "";
    thinking.hidden = true;
    stop.hidden = false;
    const body = { model: form.model.value, stream: true, headgate: { details: true }, messages: [{ role: "user", content: form.prompt.value }] };
    try {
      const reply = await fetch("/playground/ask", {
        method: "POST", signal: abort.signal, body: JSON.stringify(body),
        headers: { "content-type": "application/json", "x-csrf-token": document.querySelector("meta[name=csrf]").content },
      });
      await read(reply);
    } catch (error) {
      about.textContent = error.name === "AbortError" ? "Stopped." : String(error);
    }
    stop.hidden = true;
  });
  form.querySelector("button[disabled]").disabled = false;  // sent before there is a listener, the prompt would go into the URL

  async function read(reply) {
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const frames = (rest + value).split("\n\n");
      rest = frames.pop();
      for (const frame of frames) show(frame);
    }
    if (rest.trim()) show(rest);
  }

  const counted = (attempts) => attempts === 1 ? "1 attempt" : `${attempts} attempts`;

  function show(frame) {
    const data = frame.startsWith("data: ") ? frame.slice(6) : frame.startsWith("{") ? frame : "";
    if (!data || data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) { about.textContent = `Error: ${chunk.error.message}`; return; }
    for (const { delta } of chunk.choices ?? []) {
      if (delta.reasoning_content) { thinking.hidden = false; thinking.textContent += delta.reasoning_content; }
      if (delta.content) answer.textContent += delta.content;
    }
    const seen = chunk.headgate;
    if (seen) {
      const link = document.createElement("a");
      link.href = `/requests/${seen.trace}`;
      link.textContent = seen.trace;
      about.replaceChildren(`${seen.requested} → ${seen.chosen?.model ?? "?"} · ${seen.chosen?.because ?? ""} · ${counted(seen.attempts?.length ?? 0)} · ${seen.cost_usd ? "$" + seen.cost_usd : "cost unknown"} · `, link);
    }
  }
}
