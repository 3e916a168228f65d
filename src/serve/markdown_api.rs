//! Markdown as HTML that the page can show: an answer of a model can hold anything, and none of it becomes HTML of its own.

use axum::Json;
use pulldown_cmark::{CowStr, Event, LinkType, Options, Parser, Tag, TagEnd, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::aside::aside;
use super::extract::JsonBody;

/// The beginnings of addresses that a link can have.
const SCHEMES: [&str; 3] = ["http://", "https://", "mailto:"];

/// Texts in Markdown.
#[derive(Deserialize)]
pub struct MarkdownTexts {
    texts: Vec<String>,
}

/// Answers with the HTML of each text.
pub async fn render(
    JsonBody(MarkdownTexts { texts }): JsonBody<MarkdownTexts>,
) -> Result<Json<Value>, ApiError> {
    let html = aside(move || Ok(texts.iter().map(|text| to_html(text)).collect::<Vec<_>>()));
    Ok(Json(json!({ "html": html.await? })))
}

/// The HTML of a text in `CommonMark` with tables and strikethrough. HTML in the text is shown as it is written, links lead to
/// `http`, `https` and `mailto` alone, and an image is a link to it, since the page loads nothing from elsewhere.
fn to_html(text: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    // The links that are open; a link that leads nowhere, or is within another, is text.
    let mut links = Vec::new();
    let events = Parser::new_ext(text, options).filter_map(|event| match event {
        Event::Start(
            Tag::Link {
                link_type,
                dest_url,
                ..
            }
            | Tag::Image {
                link_type,
                dest_url,
                ..
            },
        ) => {
            let address = match link_type {
                LinkType::Email => format!("mailto:{dest_url}").into(),
                _ => dest_url,
            };
            let link = Some(address).filter(|to| !links.contains(&true) && is_allowed(to));
            links.push(link.is_some());
            link.map(|to| start_of_link(&to))
        }
        Event::End(TagEnd::Link | TagEnd::Image) => {
            let is_shown = links.pop() == Some(true);
            is_shown.then(|| Event::InlineHtml("</a>".into()))
        }
        Event::Html(html) | Event::InlineHtml(html) => Some(Event::Text(html)),
        Event::Start(Tag::HtmlBlock) => Some(Event::Start(Tag::Paragraph)),
        Event::End(TagEnd::HtmlBlock) => Some(Event::End(TagEnd::Paragraph)),
        // Alignments become style attributes, which the page's policy forbids.
        Event::Start(Tag::Table(_)) => Some(Event::Start(Tag::Table(Vec::new()))),
        event => Some(event),
    });
    let mut out = String::new();
    html::push_html(&mut out, events);
    out
}

fn is_allowed(address: &str) -> bool {
    SCHEMES.iter().any(|scheme| {
        let beginning = address.get(..scheme.len());
        beginning.is_some_and(|it| it.eq_ignore_ascii_case(scheme))
    })
}

fn start_of_link<'a>(address: &str) -> Event<'a> {
    let mut escaped = String::new();
    for c in address.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c => escaped.push(c),
        }
    }
    let start = format!("<a href=\"{escaped}\" rel=\"noopener noreferrer\" target=\"_blank\">");
    Event::InlineHtml(CowStr::from(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(address: &str, text: &str) -> String {
        format!("<a href=\"{address}\" rel=\"noopener noreferrer\" target=\"_blank\">{text}</a>")
    }

    #[test]
    fn markdown_becomes_html() {
        for (text, html) in [
            (
                "*a* **b** ~~c~~",
                "<p><em>a</em> <strong>b</strong> <del>c</del></p>\n",
            ),
            (
                "# T\n\n- x\n- y",
                "<h1>T</h1>\n<ul>\n<li>x</li>\n<li>y</li>\n</ul>\n",
            ),
            (
                "```c\nif (a < b)\n```",
                "<pre><code class=\"language-c\">if (a &lt; b)\n</code></pre>\n",
            ),
            (
                "|a|b|\n|:-:|--:|\n|1|2|",
                "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody>\n<tr><td>1</td><td>2</td></tr>\n</tbody></table>\n",
            ),
        ] {
            assert_eq!(to_html(text), html, "{text}");
        }
    }

    #[test]
    fn html_in_a_text_is_shown_as_it_is_written() {
        assert_eq!(
            to_html("a <b onclick=x>b</b>"),
            "<p>a &lt;b onclick=x&gt;b&lt;/b&gt;</p>\n"
        );
        assert_eq!(
            to_html("<script>alert(1)</script>\n\nb"),
            "<p>&lt;script&gt;alert(1)&lt;/script&gt;\n</p>\n<p>b</p>\n"
        );
        assert_eq!(
            to_html("```\"><img src=x>\nc\n```"),
            "<pre><code class=\"language-&quot;&gt;&lt;img\">c\n</code></pre>\n"
        );
    }

    #[test]
    fn links_lead_to_pages_and_mail_alone_and_images_are_links() {
        let a = "https://a.example/?b=1&c=%22";
        let escaped = "https://a.example/?b=1&amp;c=%22";
        let paragraph = |inner: &str| format!("<p>{inner}</p>\n");
        for (text, html) in [
            (format!("[a]({a} \"title\")"), link(escaped, "a")),
            (
                format!("<{a}>"),
                link(escaped, "https://a.example/?b=1&amp;c=%22"),
            ),
            (
                "<ann@a.example>".into(),
                link("mailto:ann@a.example", "ann@a.example"),
            ),
            (
                "[a](HTTP://b.example)".into(),
                link("HTTP://b.example", "a"),
            ),
            (format!("![alt *x*]({a})"), link(escaped, "alt <em>x</em>")),
            (
                format!("[![alt]({a})](https://b.example)"),
                link("https://b.example", "alt"),
            ),
            (format!("[![alt]({a})](javascript:b)"), link(escaped, "alt")),
            ("[a](javascript:alert(1))".into(), "a".into()),
            ("[a](jAvAsCrIpT:alert(1))".into(), "a".into()),
            ("[a](data:text/html,x)".into(), "a".into()),
            ("[a](/api/me)".into(), "a".into()),
            ("[a](//b.example)".into(), "a".into()),
            ("![a](javascript:b)".into(), "a".into()),
            (
                "[a](<https://b.example/\"onclick=x>)".into(),
                link("https://b.example/&quot;onclick=x", "a"),
            ),
        ] {
            assert_eq!(to_html(&text), paragraph(&html), "{text}");
        }
    }
}
