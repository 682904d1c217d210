// The official OpenAI SDK and the Vercel AI SDK read recorded answers. One line in per recording, one line out per reader:
// stdin {model, stream, readers} → stdout {model, reader, text, calls: [[name, arguments]], finish, tokens: [in, out]}
import readline from "node:readline";
import OpenAI from "openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const baseURL = `${process.argv[2]}/v1`;
const openai = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const vercel = createOpenAICompatible({ name: "headgate", baseURL, apiKey: "any", includeUsage: true });
const messages = [{ role: "user", content: "hello" }];

async function chat(model, stream) {
  let answer;
  if (stream) {
    const runner = openai.chat.completions.stream({ model, messages, stream_options: { include_usage: true } });
    answer = await runner.finalChatCompletion();
  } else answer = await openai.chat.completions.create({ model, messages });
  const { message, finish_reason } = answer.choices[0];
  const calls = (message.tool_calls ?? []).map((c) => (c.function ? [c.function.name, c.function.arguments] : [c.custom.name, c.custom.input]));
  const usage = answer.usage;
  return { text: (message.content ?? "") + (message.refusal ?? ""), calls, finish: finish_reason,
    tokens: usage ? [usage.prompt_tokens, usage.completion_tokens] : null };
}

async function responses(model, stream) {
  let answer;
  if (stream) {
    for await (const event of await openai.responses.create({ model, input: "hello", stream: true })) answer = event.response ?? answer;
  } else answer = await openai.responses.create({ model, input: "hello" });
  const said = answer.output.filter((i) => i.type === "message").flatMap((i) => i.content);
  const calls = answer.output.filter((i) => i.type === "function_call").map((i) => [i.name, i.arguments]);
  calls.push(...answer.output.filter((i) => i.type === "custom_tool_call").map((i) => [i.name, i.input]));
  return { text: said.map((p) => p.text ?? p.refusal ?? "").join(""), calls, finish: answer.incomplete_details?.reason ?? answer.status,
    tokens: answer.usage ? [answer.usage.input_tokens, answer.usage.output_tokens] : null };
}

async function ai(model, stream) {
  const ask = { model: vercel(model), prompt: "hello", maxRetries: 0 };
  let failed;
  const answer = stream ? streamText({ ...ask, onError: ({ error }) => { failed = error; } }) : await generateText(ask);
  if (stream) { await answer.consumeStream(); if (failed) throw failed; }
  const [text, toolCalls, finish, usage] = await Promise.all([answer.text, answer.toolCalls, answer.finishReason, answer.usage]);
  return { text, calls: toolCalls.map((c) => [c.toolName, typeof c.input === "string" ? c.input : JSON.stringify(c.input)]), finish,
    tokens: usage.inputTokens == null ? null : [usage.inputTokens, usage.outputTokens] };
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { model, stream, readers } = JSON.parse(line);
  for (const reader of readers) {
    try {
      console.log(JSON.stringify({ model, reader, ...(await { chat, responses, ai }[reader](model, stream)) }));
    } catch (error) {
      console.log(JSON.stringify({ model, reader, error: `${error.name}: ${error.message}` }));
    }
  }
}
