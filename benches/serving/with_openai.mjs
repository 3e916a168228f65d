// Tests the server at the given address with OpenAI's own client for Node.js.

import assert from "node:assert";

import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none" });
const ask = {
  model: "alice",
  messages: [{ role: "user", content: "Reply to: Are you free on Friday?" }],
  max_tokens: 24,
};
let n = 0;
const check = (holds, what) => {
  assert(holds, JSON.stringify(what));
  n += 1;
};

const models = [];
for await (const model of await client.models.list()) models.push(model.id);
check(models.join() === "base,alice", models);
const whole = await client.chat.completions.create(ask);
const text = whole.choices[0].message.content;
check(text.length > 0 && whole.usage.completion_tokens > 0, whole);

let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
check(streamed === text, streamed);

const stop = text.slice(8, 11);
const stopped = (await client.chat.completions.create({ ...ask, stop })).choices[0];
check(stopped.finish_reason === "stop" && stopped.message.content === text.slice(0, text.indexOf(stop)), stopped);

const explained = await client.chat.completions.create({ ...ask, logprobs: true, top_logprobs: 2 });
check(explained.choices[0].logprobs.content.every(({ logprob, p_base }) => logprob <= 0 && p_base > 0), explained);

const schema = { type: "object", properties: { yes: { type: "boolean" } }, required: ["yes"], additionalProperties: false };
const formed = await client.chat.completions.create({
  ...ask,
  max_tokens: 200,
  response_format: { type: "json_schema", json_schema: { name: "yes", schema } },
});
check(typeof JSON.parse(formed.choices[0].message.content).yes === "boolean", formed);

// A stream can be abandoned in the middle.
const long = await client.chat.completions.create({ ...ask, max_tokens: 500, stream: true });
for await (const chunk of long) {
  if (chunk.choices[0]?.delta?.content) break;
}
long.controller.abort();

await assert.rejects(client.chat.completions.create({ ...ask, model: "bob" }), OpenAI.NotFoundError);
n += 1;
console.log(`${n} checks hold`);
