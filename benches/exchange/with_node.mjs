// Runs an adapter in node-llama-cpp.
//
//     node benches/exchange/with_node.mjs FOLDER BASE.gguf ADAPTER.gguf INPUTS.json
//
// FOLDER is where node-llama-cpp was installed. INPUTS.json has `prompts` as token ids, and `n_predict`. Prints a line of
// JSON per prompt with the greedy `tokens`.
import {readFileSync} from "node:fs";
import {availableParallelism} from "node:os";
import {pathToFileURL} from "node:url";
import {resolve} from "node:path";

const [folder, base, adapter, inputs] = process.argv.slice(2);
const {prompts, n_predict} = JSON.parse(readFileSync(inputs, "utf8"));
const index = resolve(folder, "node_modules/node-llama-cpp/dist/index.js");
const {getLlama} = await import(pathToFileURL(index));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: resolve(base)});
// By default it starts more threads than there are cores, which then wait for each other.
const context = await model.createContext({
    contextSize: 2048,
    threads: availableParallelism(),
    lora: {adapters: [{filePath: resolve(adapter)}]}
});
const sequence = context.getSequence();
for (const prompt of prompts) {
    await sequence.clearHistory();
    const tokens = [];
    for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
        tokens.push(token);
        if (tokens.length >= n_predict || model.isEogToken(token)) break;
    }
    console.log(JSON.stringify({tokens}));
}
process.exit(0);
