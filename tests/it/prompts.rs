//! Prompts equal those of `transformers` in `golden/prompts.json`; the program that wrote them lies beside it.

use cope_llama::message::Message;
use cope_llama::prompt::{ChatTemplate, response_tokens};
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
