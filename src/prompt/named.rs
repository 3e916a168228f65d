//! Chat templates by name. Some model files hold, in place of a template, the name of one that llama.cpp has built in; their
//! prompts are those that llama.cpp makes.

/// Names whose templates write the role of every message: the texts before the role, after it and after the message, and
/// the filter of the message.
const WITH_ROLES: [(&str, [&str; 4]); 11] = [
    ("chatml", ["<|im_start|>", "\n", "<|im_end|>\n", ""]),
    ("phi3", ["<|", "|>\n", "<|end|>\n", ""]),
    ("phi4", ["<|im_start|>", "<|im_sep|>", "<|im_end|>", ""]),
    ("falcon3", ["<|", "|>\n", "\n", ""]),
    ("zephyr", ["<|", "|>\n", "<|endoftext|>\n", ""]),
    (
        "llama3",
        [
            "<|start_header_id|>",
            "<|end_header_id|>\n\n",
            "<|eot_id|>",
            "| trim",
        ],
    ),
    (
        "llama4",
        [
            "<|header_start|>",
            "<|header_end|>\n\n",
            "<|eot|>",
            "| trim",
        ],
    ),
    ("granite", GRANITE),
    ("granite-4.0", GRANITE),
    ("granite-4.1", GRANITE),
    ("exaone-moe", ["<|", "|>\n", "<|endofturn|>\n", "| trim"]),
];

const GRANITE: [&str; 4] = [
    "<|start_of_role|>",
    "<|end_of_role|>",
    "<|end_of_text|>\n",
    "",
];

/// Names whose templates have texts of their own for each role.
const BY_ROLE: [(&str, ByRole); 13] = [
    ("mistral-v7", MISTRAL_V7),
    (
        "mistral-v7-tekken",
        ByRole {
            system: ["[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"],
            user: ["[INST]", "[/INST]"],
            assistant: ["", "</s>"],
            ..MISTRAL_V7
        },
    ),
    ("vicuna", VICUNA),
    (
        "vicuna-orca",
        ByRole {
            system: ["SYSTEM: ", "\n"],
            ..VICUNA
        },
    ),
    (
        "openchat",
        ByRole {
            system: ["", "<|end_of_turn|>"],
            user: ["GPT4 Correct User: ", "<|end_of_turn|>"],
            assistant: ["GPT4 Correct Assistant: ", "<|end_of_turn|>"],
            prompt: "GPT4 Correct Assistant:",
            ..MISTRAL_V7
        },
    ),
    (
        "smolvlm",
        ByRole {
            lead: "<|im_start|>",
            system: ["", "\n\n"],
            user: ["User: ", "<end_of_utterance>\n"],
            assistant: ["Assistant: ", "<end_of_utterance>\n"],
            prompt: "Assistant:",
            filter: "",
        },
    ),
    (
        "deepseek",
        ByRole {
            system: ["", ""],
            user: ["### Instruction:\n", "\n"],
            assistant: ["### Response:\n", "\n<|EOT|>\n"],
            prompt: "### Response:\n",
            ..MISTRAL_V7
        },
    ),
    (
        "deepseek2",
        ByRole {
            system: ["", "\n\n"],
            user: ["User: ", "\n\n"],
            assistant: ["Assistant: ", "<｜end▁of▁sentence｜>"],
            prompt: "Assistant:",
            ..MISTRAL_V7
        },
    ),
    (
        "deepseek3",
        ByRole {
            system: ["", "\n\n"],
            user: ["<｜User｜>", ""],
            assistant: ["<｜Assistant｜>", "<｜end▁of▁sentence｜>"],
            prompt: "<｜Assistant｜>",
            ..MISTRAL_V7
        },
    ),
    (
        "command-r",
        ByRole {
            system: [
                "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>",
                "<|END_OF_TURN_TOKEN|>",
            ],
            user: [
                "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
                "<|END_OF_TURN_TOKEN|>",
            ],
            assistant: [
                "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
                "<|END_OF_TURN_TOKEN|>",
            ],
            prompt: "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
            filter: "| trim",
            ..MISTRAL_V7
        },
    ),
    ("exaone3", EXAONE),
    ("exaone4", EXAONE),
    (
        "rwkv-world",
        ByRole {
            system: ["System: ", "\n\n"],
            user: ["User: ", "\n\n"],
            assistant: ["Assistant: ", "\n\n"],
            prompt: "Assistant:",
            filter: "| trim",
            ..MISTRAL_V7
        },
    ),
];

const MISTRAL_V7: ByRole = ByRole {
    lead: "",
    system: ["[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]"],
    user: ["[INST] ", "[/INST]"],
    assistant: [" ", "</s>"],
    prompt: "",
    filter: "",
};

const VICUNA: ByRole = ByRole {
    system: ["", "\n\n"],
    user: ["USER: ", "\n"],
    assistant: ["ASSISTANT: ", "</s>\n"],
    prompt: "ASSISTANT:",
    ..MISTRAL_V7
};

const EXAONE: ByRole = ByRole {
    system: ["[|system|]", "[|endofturn|]\n"],
    user: ["[|user|]", "\n"],
    assistant: ["[|assistant|]", "[|endofturn|]\n"],
    prompt: "[|assistant|]",
    filter: "| trim",
    ..MISTRAL_V7
};

/// The texts around the messages of each role.
struct ByRole {
    /// The text before all messages.
    lead: &'static str,
    system: [&'static str; 2],
    user: [&'static str; 2],
    assistant: [&'static str; 2],
    /// The text before the answer.
    prompt: &'static str,
    /// The filter of the messages.
    filter: &'static str,
}

/// Names whose templates join the system message and the first one of the user in one turn: the texts before a turn, around
/// a system message, after a user message and before an answer, and the filters of all messages and of answers.
const IN_TURNS: [(&str, [&str; 7]); 7] = [
    ("llama2", ["[INST] ", "", "\n", " [/INST]", "", "", ""]),
    ("llama2-sys", LLAMA2_SYS),
    (
        "llama2-sys-strip",
        [
            "[INST] ",
            "<<SYS>>\n",
            "\n<</SYS>>\n\n",
            " [/INST]",
            "",
            "| trim",
            "| trim",
        ],
    ),
    ("llama2-sys-bos", LLAMA2_SYS),
    (
        "mistral-v1",
        [" [INST] ", "", "\n\n", " [/INST]", " ", "", ""],
    ),
    (
        "mistral-v3",
        ["[INST] ", "", "\n\n", "[/INST]", " ", "", "| trim"],
    ),
    (
        "mistral-v3-tekken",
        ["[INST]", "", "\n\n", "[/INST]", "", "", ""],
    ),
];

const LLAMA2_SYS: [&str; 7] = [
    "[INST] ",
    "<<SYS>>\n",
    "\n<</SYS>>\n\n",
    " [/INST]",
    "",
    "",
    "",
];

/// Gemma's template, which writes the system message into the user's next one.
const GEMMA: &str = r"
{%- set ns = namespace(system='') %}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {%- set ns.system = ns.system ~ (message.content | trim) %}
    {%- elif message.role == 'user' %}
        {{- '<start_of_turn>user\n' ~ (ns.system ~ '\n\n' if ns.system else '') }}
        {{- (message.content | trim) ~ '<end_of_turn>\n' }}
        {%- set ns.system = '' %}
    {%- else %}
        {{- '<start_of_turn>model\n' ~ (message.content | trim) ~ '<end_of_turn>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{% endif %}";

/// The template of this name, in Jinja.
pub fn template(name: &str) -> Option<String> {
    fn find<'a, T>(table: &'a [(&str, T)], name: &str) -> Option<&'a T> {
        table.iter().find(|it| it.0 == name).map(|it| &it.1)
    }
    if name == "gemma" {
        return Some(GEMMA.to_owned());
    }
    find(&WITH_ROLES, name)
        .map(with_roles)
        .or_else(|| find(&BY_ROLE, name).map(by_role))
        .or_else(|| find(&IN_TURNS, name).map(|parts| in_turns(parts, name == "llama2-sys-bos")))
}

/// The names of all templates.
pub fn names() -> impl Iterator<Item = &'static str> {
    let with_roles = WITH_ROLES.iter().map(|it| it.0);
    let by_role = BY_ROLE.iter().map(|it| it.0);
    let in_turns = IN_TURNS.iter().map(|it| it.0);
    with_roles.chain(by_role).chain(in_turns).chain(["gemma"])
}

// Rust's literals of these texts, as `{:?}` writes them, are also Jinja's.

fn with_roles([before, after, end, filter]: &[&str; 4]) -> String {
    format!(
        "{{%- for message in messages %}}\
         {{{{- {before:?} ~ message.role ~ {after:?} ~ (message.content {filter}) ~ {end:?} }}}}\
         {{%- endfor %}}\
         {{%- if add_generation_prompt %}}{{{{- {before:?} ~ 'assistant' ~ {after:?} }}}}{{% endif %}}"
    )
}

fn by_role(texts: &ByRole) -> String {
    let ByRole {
        lead,
        system,
        user,
        assistant,
        prompt,
        filter,
    } = texts;
    format!(
        "{{{{- {lead:?} }}}}\
         {{%- set texts = {{'system': {system:?}, 'user': {user:?}, 'assistant': {assistant:?}}} %}}\
         {{%- for message in messages %}}\
         {{{{- texts[message.role][0] ~ (message.content {filter}) ~ texts[message.role][1] }}}}\
         {{%- endfor %}}\
         {{%- if add_generation_prompt %}}{{{{- {prompt:?} }}}}{{% endif %}}"
    )
}

fn in_turns(
    [
        turn,
        system,
        system_end,
        user_end,
        answer,
        filter,
        answer_filter,
    ]: &[&str; 7],
    has_inner_bos: bool,
) -> String {
    let bos = if has_inner_bos { "<s>" } else { "" };
    format!(
        "{{%- set ns = namespace(begun=false, bos='') %}}\
         {{%- for message in messages %}}\
         {{%- if not ns.begun %}}{{{{- ns.bos ~ {turn:?} }}}}{{%- set ns.begun = true %}}{{% endif %}}\
         {{%- if message.role == 'system' %}}\
         {{{{- {system:?} ~ (message.content {filter}) ~ {system_end:?} }}}}\
         {{%- elif message.role == 'user' %}}\
         {{{{- (message.content {filter}) ~ {user_end:?} }}}}\
         {{%- else %}}\
         {{{{- {answer:?} ~ (message.content {answer_filter}) ~ '</s>' }}}}\
         {{%- set ns.begun = false %}}{{%- set ns.bos = {bos:?} %}}\
         {{%- endif %}}{{%- endfor %}}"
    )
}
