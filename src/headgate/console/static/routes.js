// Explains a prompt: everything is set as text, never as markup.
const form = document.querySelector("#explain");
if (form) {
  const shown = document.querySelector("#explained"), problem = document.querySelector("#unexplained");
  const part = (name) => shown.querySelector(`[data-is=${name}]`);
  const usd = (text) => text == null ? "unknown" : text.startsWith("-") ? `-$${text.slice(1)}` : `$${text}`;
  const make = (tag, text, name) => { const found = document.createElement(tag); found.textContent = text; if (name) found.className = name; return found; };
  const number = (value, digits) => value == null ? "–" : value.toFixed(digits);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { model: form.model.value, messages: [{ role: "user", content: form.prompt.value }] };
    try {
      const reply = await fetch("/change/explain", {
        method: "POST", body: JSON.stringify(body),
        headers: { "content-type": "application/json", "x-csrf-token": document.querySelector("meta[name=csrf]").content },
      });
      const found = await reply.json();
      problem.hidden = !found.error;
      problem.textContent = found.error?.message ?? "";
      shown.hidden = Boolean(found.error);
      if (!found.error) show(found);
    } catch (error) {
      problem.hidden = false;
      problem.textContent = String(error);
    }
  });
  form.querySelector("button[disabled]").disabled = false;  // sent before there is a listener, the prompt would go into the URL

  function show(found) {
    const { predicted, task } = found;
    part("chosen").textContent = `${found.requested} (${found.strategy}) → ${found.chosen?.model ?? "nobody"}: ${found.chosen?.because ?? "none of its models can be asked"}`;
    part("may").textContent = means(found);
    part("may").hidden = !part("may").textContent;
    part("cost").textContent = usd(predicted.cost_usd);
    part("worst").textContent = usd(predicted.worst_case_usd);
    part("saved").textContent = found.baseline ? usd(predicted.saved_usd) : "–";
    part("against").textContent = found.baseline ? `Saved against ${found.baseline}` : "Saved";
    part("latency").textContent = predicted.latency_ms == null ? "not known yet" : `${predicted.latency_ms.toFixed(0)} ms`;
    part("task").hidden = !task;
    if (task) {
      part("labels").replaceChildren(...labels(task));
      part("signals").textContent = task.signals.join(" · ") || "none";
      const { language, difficulty, protocol, sensitive } = task.needs;
      part("needs").textContent = [
        `language ${language || "not told"}`,
        `${difficulty.level} difficulty${difficulty.because.length ? ` (${difficulty.because.join(", ")})` : ""}`,
        ...protocol,
        ...sensitive.map((kind) => `holds ${kind}`),
      ].join(" · ");
    }
    part("candidates").replaceChildren(...found.candidates.map(candidate));
  }

  // Who is still asked for the task; how a panel decides; what an agent may use.
  function means({ route, ensemble, agent }) {
    if (route?.asks) return `The task is the learned classifier's guess: ${route.asks} is asked for it when the request is answered`;
    const judge = ensemble?.judge ? `, judged by ${ensemble.judge.model} (${ensemble.judge.style})` : "";
    if (ensemble?.panel?.length) return `Panel: ${ensemble.panel.join(", ")} · mode ${ensemble.mode}${judge} · incumbent ${ensemble.incumbent}`;
    if (agent) return `Models: ${Object.keys(agent.models).join(", ")} · tools: ${agent.tools.join(", ") || "none"} · at most ${agent.max_steps} steps`;
    return "";
  }

  function labels(task) {
    const rows = Object.entries(task.labels).map(([label, share]) => {
      const row = make("label", "", label === task.label ? "is" : ""), bar = document.createElement("meter");
      bar.value = share;
      row.append(make("span", label), bar, make("span", share.toFixed(2), "n"));
      return row;
    });
    if (task.label === "unknown") rows.unshift(make("p", "unknown: no label is sure enough, so the safe default answers"));
    return rows;
  }

  function candidate(row) {
    const line = document.createElement("tr"), why = document.createElement("td");
    if (row.out != null) why.append(make("span", "out", "pill bad"), " ");
    why.append(row.out ?? row.because ?? "");
    if (row.order) why.append(" ", make("small", row.order.join(" → ")));
    const quality = row.quality == null ? "–" : `${row.quality.toFixed(2)} ± ${number(row.uncertainty, 2)}`;
    line.append(
      make("td", row.model, "name"), make("td", quality, "n"), make("td", number(row.score, 3), "n"), make("td", usd(row.cost_usd), "n"),
      make("td", usd(row.worst_case_usd), "n"), make("td", row.latency_ms == null ? "–" : `${row.latency_ms.toFixed(0)} ms`, "n"),
      make("td", row.health == null ? "–" : `${(row.health * 100).toFixed(0)} %`, "n"), why,
    );
    return line;
  }
}
