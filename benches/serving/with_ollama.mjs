// Tests the server at the given address with Ollama's own client for Node.js.

import assert from "node:assert";

import { Ollama } from "ollama";

const client = new Ollama({ host: process.argv[2] });
const ask = {
  model: "alice",
  messages: [{ role: "user", content: "Reply to: Are you free on Friday?" }],
  options: { num_predict: 24 },
};
let n = 0;
const check = (holds, what) => {
  assert(holds, JSON.stringify(what));
  n += 1;
};

const { models } = await client.list();
check(models.map(({ name }) => name).join() === "base:latest,alice:latest", models);
const unspecified = new Ollama({ host: process.argv[2].replace("127.0.0.1", "0.0.0.0") });
check((await unspecified.list()).models.length === 2, "the host 0.0.0.0");
const shown = await client.show({ model: "alice:latest" });
check(shown.details.family === shown.model_info["general.architecture"], shown);
check((await client.ps()).models.length === 1 && (await client.version()).version.length > 0, "ps and version");

const whole = await client.chat(ask);
const text = whole.message.content;
check(text.length > 0 && whole.done && Number.isInteger(whole.total_duration), whole);
let streamed = "";
let last;
for await (const part of await client.chat({ ...ask, stream: true })) {
  streamed += part.message.content;
  last = part;
}
check(streamed === text && last.eval_count === whole.eval_count, streamed);
const prompt = { model: "alice", prompt: ask.messages[0].content, options: ask.options };
check((await client.generate(prompt)).response === text, "a prompt is a chat of one message");
const formed = await client.chat({ ...ask, options: { num_predict: 100 }, format: "json" });
check(formed.message.content.startsWith("{"), formed);

// A stream can be abandoned in the middle.
const long = await client.chat({ ...ask, options: { num_predict: 500 }, stream: true });
await assert.rejects(async () => {
  for await (const part of long) {
    if (part.message.content) long.abort();
  }
}, { name: "AbortError" });
n += 1;

await assert.rejects(client.chat({ ...ask, model: "bob" }), { name: "ResponseError", status_code: 404 });
n += 1;
console.log(`${n} checks hold`);
