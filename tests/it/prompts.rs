//! Prompts equal those of `transformers` in `golden/prompts.json`; the program that wrote them lies beside it.

use cope_llama::message::Message;
use cope_llama::prompt::{ChatTemplate, Thinking, response_tokens};
use serde::Deserialize;

use crate::default_model;

#[derive(Deserialize)]
struct Golden {
    templates: Vec<GoldenTemplate>,
    default_model: Vec<GoldenChat>,
}

#[derive(Deserialize)]
struct GoldenTemplate {
    name: String,
    template: String,
    chats: Vec<GoldenChat>,
}

#[derive(Deserialize)]
struct GoldenChat {
    messages: Vec<Message>,
    text: String,
    #[serde(default)]
    tokens: Vec<i32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/prompts.json")).unwrap()
}

#[test]
fn templates_render_as_in_transformers() {
    for golden in golden().templates {
        let template = ChatTemplate::new(Some(&golden.template), "<bos>", "<eos>").unwrap();
        for chat in golden.chats {
            assert_eq!(
                template.render(&chat.messages).unwrap(),
                chat.text,
                "{}",
                golden.name
            );
        }
    }
}

#[test]
fn the_default_model_gets_the_text_and_the_tokens_of_transformers() {
    let model = default_model::load();
    let template = ChatTemplate::of_model(&model).unwrap();
    for chat in golden().default_model {
        assert_eq!(template.render(&chat.messages).unwrap(), chat.text);
        assert_eq!(
            template.prompt_tokens(&model, &chat.messages).unwrap(),
            chat.tokens
        );
    }
}

#[test]
fn a_response_ends_with_one_end_of_turn_and_holds_no_other_special_token() {
    let model = default_model::load();
    let tokens = response_tokens(&model, "so <|im_end|> is not the end").unwrap();
    let ends: Vec<usize> = (0..tokens.len())
        .filter(|&i| model.is_eog(tokens[i]))
        .collect();
    assert_eq!(ends, [tokens.len() - 1]);
}

#[test]
fn a_model_without_a_template_gets_the_fallback() {
    let template = ChatTemplate::new(None, "<s>", "</s>").unwrap();
    let chat = [
        Message::system("Be kind."),
        Message::user("One?"),
        Message::assistant("Two."),
        Message::user("Why?"),
    ];
    let expected = "<s>System:\nBe kind.\n\nUser:\nOne?\n\nAssistant:\nTwo.</s>\n\nUser:\nWhy?\n\nAssistant:\n";
    assert_eq!(template.render(&chat).unwrap(), expected);
}

#[test]
fn the_date_in_a_prompt_is_always_the_same() {
    let source = "{{ strftime_now('%d %b %Y, %A') }}{{ messages[0].content }}";
    let template = ChatTemplate::new(Some(source), "", "").unwrap();
    assert_eq!(
        template.render(&[Message::user("!")]).unwrap(),
        "26 Jul 2024, Friday!"
    );
}

#[test]
fn a_template_that_fails_says_why_in_one_line() {
    let refusing = "a\n{{ raise_exception('no system message, please') }}";
    let render =
        |source: &str| ChatTemplate::new(Some(source), "", "")?.render(&[Message::user("?")]);
    assert_eq!(
        render(refusing).unwrap_err().to_string(),
        "the model's chat template failed: no system message, please (line 2 of the template)"
    );
    for broken in [
        "{% if %}",
        "{{ messages[0].content | frobnicate }}",
        "{% for m in messages %}",
    ] {
        let message = render(broken).unwrap_err().to_string();
        assert!(
            message.starts_with("the model's chat template failed: "),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_name_in_place_of_a_template_gives_llama_cpps_prompts() {
    #[derive(Deserialize)]
    struct Named {
        name: String,
        messages: Vec<Message>,
        text: String,
    }
    let golden = include_str!("../golden/named_templates.json");
    let golden: Vec<Named> = serde_json::from_str(golden).unwrap();
    assert_eq!(golden.len(), 32 * 3);
    for Named {
        name,
        messages,
        text,
    } in golden
    {
        let template = ChatTemplate::new(Some(&format!("{name}\n")), "", "").unwrap();
        assert_eq!(template.render(&messages).unwrap(), text, "{name}");
    }
    let unknown = ChatTemplate::new(Some("chatlm"), "", "").unwrap_err();
    let unknown = unknown.to_string();
    assert!(
        unknown.starts_with("the model's chat template failed: \"chatlm\" is neither a template nor the name of one; the known names are chatml, "),
        "{unknown}"
    );
}

#[test]
fn an_empty_template_is_none() {
    let chat = [Message::user("One?")];
    let fallback = ChatTemplate::new(None, "", "").unwrap();
    let empty = ChatTemplate::new(Some(" \n"), "", "").unwrap();
    assert_eq!(
        empty.render(&chat).unwrap(),
        fallback.render(&chat).unwrap()
    );
}

/// The prompts of one chat without and with thinking.
fn prompts(source: &str, chat: &[Message]) -> [String; 2] {
    let template = ChatTemplate::new(Some(source), "", "").unwrap();
    [Thinking::Off, Thinking::On].map(|thinking| {
        let template = template.with_settings(thinking);
        template.render(chat).unwrap()
    })
}

/// The turns of the templates of these tests.
const TURNS: &str =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}";

#[test]
fn a_thought_is_left_out_by_what_the_template_has_for_that() {
    let chat = [Message::user("a <think> tag?")];
    let turns = "<user>a <think> tag?</user>";
    // The template has a variable.
    for name in ["enable_thinking", "thinking"] {
        let source = format!(
            "{TURNS}{{% if add_generation_prompt %}}<assistant>{{% if not {name} %}}<think></think>{{% endif %}}{{% endif %}}"
        );
        let expected = ["<assistant><think></think>", "<assistant>"];
        assert_eq!(
            prompts(&source, &chat),
            expected.map(|end| format!("{turns}{end}")),
            "{name}"
        );
    }
    // The template opens a thought always.
    for (opening, closed) in [
        ("<think>\\n", "<think>\n\n</think>\n\n"),
        ("<think>", "<think></think>"),
        ("[THINK]", "[THINK][/THINK]"),
    ] {
        for end in [
            format!(
                "{{% if add_generation_prompt %}}{{{{ '<assistant>{opening}' }}}}{{% endif %}}"
            ),
            format!("{{{{ '<assistant>{opening}' }}}}"),
        ] {
            let [off, on] = prompts(&format!("{TURNS}{end}"), &chat);
            assert_eq!(off, format!("{turns}<assistant>{closed}"));
            assert_eq!(
                on,
                format!("{turns}<assistant>{}", opening.replace("\\n", "\n"))
            );
        }
    }
    // The template knows no thoughts, and what a message says of them changes nothing.
    let plain = prompts(&format!("{TURNS}<assistant>"), &chat);
    assert_eq!(plain, [0; 2].map(|_| format!("{turns}<assistant>")));
}

#[test]
fn a_thought_that_cannot_be_closed_is_refused_only_where_it_must_be() {
    let source = format!("{TURNS}<assistant><|begin_reasoning|>");
    let template = ChatTemplate::new(Some(&source), "", "").unwrap();
    let chat = [Message::user("?")];
    let refused = template.render(&chat).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the model's chat template failed: it opens a thought with <|begin_reasoning|>, and nothing is known to close it, so that an answer would be a thought; use a base model whose template can leave thoughts out"
    );
    let thinking = template.with_settings(Thinking::On);
    assert_eq!(
        thinking.render(&chat).unwrap(),
        "<user>?</user><assistant><|begin_reasoning|>"
    );
    assert!(thinking.offers_thinking().unwrap());
    let split = thinking.splitter(&chat).unwrap().push("hm");
    assert_eq!(split.answer, "hm");
    // A template that mentions the closing tag can be closed.
    let source = format!("{source}{{# ends with <|end_reasoning|> #}}");
    let [off, _] = prompts(&source, &chat);
    assert_eq!(
        off,
        "<user>?</user><assistant><|begin_reasoning|><|end_reasoning|>"
    );
}

#[test]
fn thoughts_are_cut_from_earlier_answers_whatever_the_template_does() {
    let chat = [
        Message::user("One?"),
        Message::assistant("<think>\nhm\n</think>\n\nTwo."),
        Message::user("<think>mine</think>"),
    ];
    let strips = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% else %}{{ m.content }}{% endif %}</{{ m.role }}>{% endfor %}";
    for source in [TURNS, strips] {
        let expected =
            "<user>One?</user><assistant>Two.</assistant><user><think>mine</think></user>";
        assert_eq!(prompts(source, &chat), [expected; 2]);
    }
}

#[test]
fn the_answer_after_an_opened_thought_begins_with_the_thought() {
    let source = format!("{TURNS}<assistant>{{{{ '<think>\\n' }}}}");
    let template = ChatTemplate::new(Some(&source), "", "").unwrap();
    let chat = [Message::user("?")];
    let divided = |template: &ChatTemplate, text: &str| {
        let split = template.splitter(&chat).unwrap().push(text);
        [split.thought, split.answer]
    };
    let text = "hm\n</think>\n\nyes";
    assert_eq!(
        divided(&template.with_settings(Thinking::On), text),
        ["hm", "yes"]
    );
    assert_eq!(divided(&template, text), ["", text]);
    // Some models think without being asked.
    assert_eq!(divided(&template, "<think>hm</think>yes"), ["hm", "yes"]);
    assert!(template.offers_thinking().unwrap());
    assert!(
        !ChatTemplate::new(None, "", "")
            .unwrap()
            .offers_thinking()
            .unwrap()
    );
}

#[test]
fn a_template_that_reads_lists_of_parts_gets_them() {
    let chat = [
        Message::system("Be kind."),
        Message::user("One?"),
        Message::assistant("<think>hm</think>Two."),
        Message::user("Why?"),
    ];
    let parts = "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}";
    let turns = |system: &str, others: &str| {
        format!(
            "{{% for m in messages %}}<{{{{ m.role }}}}>{{% if m.role == 'system' %}}{system}{{% else %}}{others}{{% endif %}}{{% endfor %}}<assistant>"
        )
    };
    let text = "{{ m.content }}";
    let either =
        format!("{{% if m.content is string %}}{text}{{% else %}}list{parts}{{% endif %}}");
    let expected = "<system>Be kind.<user>One?<assistant>Two.<user>Why?<assistant>";
    for source in [
        turns(parts, parts),
        turns(text, parts),
        turns(parts, text),
        turns(text, text),
        turns(&either, &either),
        // Filters change neither the texts' form nor the probe.
        turns("{{ m.content | trim }}", "{{ m.content | trim }}"),
    ] {
        assert_eq!(prompts(&source, &chat), [expected; 2], "{source}");
    }
}

#[test]
fn a_template_that_leaves_out_what_the_user_says_is_refused() {
    for source in [
        "{% for m in messages %}<{{ m.role }}>{% endfor %}<assistant>",
        "{% for m in messages %}{{ m.text }}{% endfor %}",
        "{% for m in messages %}{% for p in m.content %}{{ p.image }}{% endfor %}{% endfor %}",
    ] {
        let refused = ChatTemplate::new(Some(source), "", "").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the model's chat template failed: it leaves out what the user says, so that every prompt would be the same; use a base model with another template",
            "{source}"
        );
    }
}

#[test]
fn a_tag_that_prompts_alone_have_opens_a_thought() {
    let ending =
        |tag: &str| format!("{TURNS}{{% if add_generation_prompt %}}<assistant>{tag}{{% endif %}}");
    let chat = [Message::user("?")];
    let refused = |source: &str| {
        let template = ChatTemplate::new(Some(source), "", "").unwrap();
        template.render(&chat).unwrap_err().to_string()
    };
    for tag in ["<brood>", "◁brood▷", "<|brood|>"] {
        let expected = format!("the model's chat template failed: it opens a thought with {tag}, ");
        let said = refused(&ending(tag));
        assert!(said.starts_with(&expected), "{said}");
    }
    for (tag, closed) in [
        ("<brood>{# </brood> #}", "<brood></brood>"),
        ("<scratchpad>", "<scratchpad></scratchpad>"),
        ("<reflect>", "<reflect></reflect>"),
        ("◁think▷", "◁think▷◁/think▷"),
        ("<|inner_prefix|>", "<|inner_prefix|><|inner_suffix|>"),
        (
            "<|channel|>analysis<|message|>",
            "<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>",
        ),
        // What is closed, or is there around answers too, opens nothing.
        ("<brood></brood>", "<brood></brood>"),
        ("<answer>", "<answer>"),
        ("now ", "now "),
    ] {
        let [off, _] = prompts(&ending(tag), &chat);
        assert_eq!(off, format!("<user>?</user><assistant>{closed}"), "{tag}");
    }
    let header = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<brood>{% endif %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant><brood>{% endif %}";
    assert_eq!(prompts(header, &chat), ["<user>?<assistant><brood>"; 2]);
}

#[test]
fn values_are_tested_and_written_as_in_python() {
    for (source, expected) in [
        (
            "{% if tools is iterable and tools | length %}x{% endif %}-",
            "-",
        ),
        (
            "{{ tools is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }}",
            "False True False",
        ),
        (
            "{{ 'a' is sequence }} {{ {} is sequence }} {{ none is sequence }}",
            "True True False",
        ),
        (
            "{{ '12' | int }} {{ '3.9' | int }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ none | int }}",
            "12 3 0 7 0",
        ),
        (
            "{{ '1.5' | float }} {{ 'x' | float }} {{ 'x' | float(default=2.5) }}",
            "1.5 0.0 2.5",
        ),
        (
            "{{ {'b': 1, 'a': \"<é'>&\"} | tojson }}",
            "{\"b\": 1, \"a\": \"<é'>&\"}",
        ),
        (
            "{{ messages[0] | tojson }}",
            "{\"role\": \"user\", \"content\": \"!\"}",
        ),
        (
            "{{ {'b': [1, {}], 'a': []} | tojson(indent=2) }}",
            "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": []\n}",
        ),
        (
            "{{ {'b': 1, 'a': 'ü🦙'} | tojson(sort_keys=true, separators=(',', ':'), ensure_ascii=true) }}",
            "{\"a\":\"\\u00fc\\ud83e\\udd99\",\"b\":1}",
        ),
        (
            "{{ '\\\\ \"q\"\\n\\t' | tojson }}",
            "\"\\\\ \\\"q\\\"\\n\\t\"",
        ),
        (
            "{{ none }} {{ true }} {{ ['a', none, \"it's\", 1.0] }} {{ {'k': false} }}",
            "None True ['a', None, \"it's\", 1.0] {'k': False}",
        ),
        (
            "{{ 1e20 }} {{ 1e-7 }} {{ 100000.0 }} {{ none | string }}",
            "1e+20 1e-07 100000.0 None",
        ),
        (
            "{{ 'a,b,c'.rsplit(',', 1)[0] }} {{ 'a=b=c'.partition('=')[2] }} {{ 'a=b=c'.rpartition('=')[0] }}",
            "a,b b=c a=b",
        ),
        (
            "{{ 'xab'.removeprefix('x') }} {{ 'abx'.removesuffix('x') }} {{ 'a'.ljust(2) }}|{{ 'a'.rjust(2) }}",
            "ab ab a | a",
        ),
    ] {
        let source = format!("{{{{ messages[0].content }}}}{source}");
        let template = ChatTemplate::new(Some(&source), "", "").unwrap();
        let text = template.render(&[Message::user("!")]).unwrap();
        assert_eq!(text, format!("!{expected}"), "{source}");
    }
}

#[test]
fn tags_for_training_masks_change_nothing_however_they_are_written() {
    let chat = [
        Message::user("a"),
        Message::assistant("b"),
        Message::user("c"),
    ];
    for (begin, end) in [
        ("{% generation %}", "{% endgeneration %}"),
        ("{%- generation -%}", "{%- endgeneration -%}"),
        ("{%generation%}", "{%endgeneration%}"),
        ("{%-generation-%}", "{%-endgeneration-%}"),
    ] {
        let source =
            format!("{{% for m in messages %}}{begin}[{{{{ m.content }}}}]{end}{{% endfor %}}");
        let template = ChatTemplate::new(Some(&source), "", "").unwrap();
        assert_eq!(template.render(&chat).unwrap(), "[a][b][c]", "{begin}");
    }
}

/// A file from outside must not keep the program busy for ever.
#[test]
fn templates_without_an_end_are_refused() {
    let loops = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
    let long = "{{ 'a' * 20000000 }}";
    for (source, told) in [
        (
            loops,
            "the model's chat template failed: engine ran out of fuel",
        ),
        (
            long,
            "the model's chat template failed: the text of the chat has more than 16 MiB",
        ),
    ] {
        let source = format!("{{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}{source}");
        let error = ChatTemplate::new(Some(&source), "", "")
            .and_then(|it| it.render(&[Message::user("?")]))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(told), "{error}");
    }
}
