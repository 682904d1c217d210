// The official OpenAI SDK and the Vercel AI SDK on Node: what each understood, one JSON line per model.
import OpenAI from "openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const baseURL = `${process.argv[2]}/v1`;
const openai = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const vercel = createOpenAICompatible({ name: "headgate", baseURL, apiKey: "any", includeUsage: true });
const prompt = "What is 12*12?";
const messages = [{ role: "user", content: prompt }];
const tools = [{ type: "function", function: { name: "get_weather", description: "Weather of a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } } }];

for (const model of process.argv.slice(3)) {
  const whole = await openai.chat.completions.create({ model, messages });
  let streamed = "";
  for await (const chunk of await openai.chat.completions.create({ model, messages, stream: true })) streamed += chunk.choices[0]?.delta?.content ?? "";
  const response = await openai.responses.create({ model, input: prompt });
  const called = await openai.chat.completions.create({ model, tools, messages: [{ role: "user", content: "What is the weather in Paris? Use get_weather." }] });
  const text = await generateText({ model: vercel(model), prompt });
  const stream = streamText({ model: vercel(model), prompt });
  let read = "";
  for await (const piece of stream.textStream) read += piece;
  console.log(JSON.stringify({
    model, whole: whole.choices[0].message.content, streamed, response: response.output_text, text: text.text, read,
    call: called.choices[0].message.tool_calls?.[0]?.function ?? null, tokens: text.usage.totalTokens, streamTokens: (await stream.usage).totalTokens,
  }));
}
