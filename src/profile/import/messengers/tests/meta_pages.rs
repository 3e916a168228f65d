//! Chats of Messenger and Instagram as web pages.

use super::{failure, left, read, read_all};

/// The elements of a page of one year: the page, a message, and the reactions in it.
struct PageLayout {
    head: &'static str,
    /// With `NAME`, `SLOTS` and `DATE`.
    message: &'static str,
    reactions: &'static str,
}

const LAYOUTS: [PageLayout; 5] = [
    PageLayout {
        head: r#"<html><head><meta charset="utf-8"><title>Zoë</title><style>._a6-g{background:#fff}</style></head><body class="_5vb_"><header class="_as-_"><div class="_a70d"><h1>Zoë</h1></div></header><main class="_a706" role="main">"#,
        message: r#"<section class="_3-95 _a6-g" aria-labelledby="u_0_1"><h2 class="_2ph_ _a6-h _a6-i" id="u_0_1">NAME</h2><div class="_2ph_ _a6-p"><div>SLOTS</div></div><footer class="_3-94 _a6-o"><a target="_blank" href="https://www.facebook.com/dyi/l/"><div class="_a72d">DATE</div></a></footer></section>"#,
        reactions: r#"<div><ul class="_a6-q"><li><span>😆Zoë (Mar 07, 2026 9:32:01 pm)</span></li></ul></div>"#,
    },
    PageLayout {
        head: r#"<html><head><title>Instagram</title></head><body><div class="_4t5n" role="main">"#,
        message: r#"<div class="pam _3-95 _2ph- _a6-g uiBoxWhite noborder"><div class="_3-95 _2pim _a6-h _a6-i">NAME</div><div class="_3-95 _a6-p"><div>SLOTS</div></div><div class="_3-94 _a6-o">DATE</div></div>"#,
        reactions: r#"<div><ul class="_a6-q"><li><span>😆Zoë</span></li></ul></div>"#,
    },
    PageLayout {
        head: r#"<html><body><div class="_4t5n" role="main"><div class="_3-95 _2pi0 _2lej uiBoxWhite noborder"><div class="_2lek">Participants: Zoë and Tom Berg</div></div>"#,
        message: r#"<div class="pam _3-95 _2pi0 _2lej uiBoxWhite noborder"><div class="_3-96 _2pio _2lek _2lel">NAME</div><div class="_3-96 _2let"><div>SLOTS</div></div><div class="_3-94 _2lem">DATE</div></div>"#,
        reactions: r#"<div><ul class="_tqp"><li>😆Zoë</li></ul></div>"#,
    },
    PageLayout {
        head: r#"<!-- saved from url=(0014)about:internet --><HTML><body><div class="k1">"#,
        message: r#"<article id="m1" class='k2 k3'><div><h3><font dir="auto"><font dir="auto">NAME</font></font></h3><div class="k4"><div>SLOTS</div></div></div><p>DATE</p></article>
"#,
        reactions: "<div><ol><li>😆Zoë</li></ol></div>",
    },
    PageLayout {
        head: "<main>",
        message: r#"<section class="_a6-g"><h2 class="_a6-h">NAME</h2><div class="_2ph_ _a6-p">SLOTS</div><footer><div class="_a72d">DATE</div></footer></section>"#,
        reactions: "<div><ul><li>😆Zoë</li></ul></div>",
    },
];

const PHOTO: &str = r#"<div></div><div></div><div></div><div></div><div><div><a href="a.jpg"><img src="a.jpg" /></a></div></div>"#;
const SHARED: &str = r#"<div></div><div>You sent an attachment.</div><div><div><div>a caption of Ada's</div><div>ada_2024</div><div><a href="https://x.example/reel/123456">https://x.example/reel/123456</a></div></div></div><div></div><div></div>"#;
const CALLED: &str =
    "<div></div><div>You called Zoë.</div><div></div><div>Duration: 1:53</div><div></div>";

impl PageLayout {
    /// A page with these messages: names, slots and dates.
    fn page(&self, messages: &[(&str, &str, &str)]) -> String {
        let message = |(name, slots, date): &(&str, &str, &str)| {
            let message = self.message.replace("NAME", name).replace("DATE", date);
            message.replace("SLOTS", slots)
        };
        let messages = messages.iter().map(message);
        format!(
            "{}{}</main></body></html>",
            self.head,
            messages.collect::<String>()
        )
    }

    /// The slots of a message with a text and a reaction.
    fn text(&self, text: &str) -> String {
        format!(
            "<div></div><div>{text}</div><div></div><div></div>{}",
            self.reactions
        )
    }
}

#[test]
fn pages_of_all_years_are_read_without_what_nobody_typed() {
    for layout in LAYOUTS {
        let texts = [
            "et du th&eacute; &lt;3",
            "tr&#232;s bien<br />à 8 ?",
            "caf&eacute; ?",
        ];
        let [last, own, asked] = texts.map(|it| layout.text(it));
        let page = layout.page(&[
            ("Tom Berg", PHOTO, "Mar 07, 2026 9:26:00 pm"),
            ("Tom Berg", SHARED, "Mar 07, 2026 9:25:00 pm"),
            ("Tom Berg", CALLED, "Mar 07, 2026 9:24:00 pm"),
            (
                "Tom Berg",
                &layout.text("Liked a message"),
                "Mar 07, 2026 9:24:00 pm",
            ),
            (
                "Tom Berg",
                &layout
                    .text("https://x.example")
                    .replace("<ul", "<a>x</a><ul"),
                "Mar 07, 2026 9:23:30 pm",
            ),
            ("Tom Berg", &last, "Mar 07, 2026 9:23:00 pm"),
            ("Tom Berg", &own, "Mar 07, 2026 9:22:00 pm"),
            ("Zo&euml;", &asked, "Mar 07, 2026 9:21:00 pm"),
        ]);
        let files = [("messages/inbox/zoe_1/message_1.html", page.as_str())];
        assert_eq!(
            read_all(&files, "Tom Berg").unwrap(),
            ["café ? → très bien\nà 8 ?\net du thé <3"],
            "{page}"
        );
        let expected = [
            "1 a call",
            "1 a notice of the messenger",
            "3 an attachment without a text",
            "1 from somebody else",
        ];
        assert_eq!(left(&files, "Tom Berg"), expected, "{page}");
        assert!(failure(&files, "").ends_with("They are by Tom Berg (2), Zoë (1)"));
    }
}

#[test]
fn dates_in_other_languages_order_and_part_the_texts() {
    let layout = &LAYOUTS[0];
    let [a, b, c] = ["one", "two", "three"].map(|it| layout.text(it));
    for (dates, expected) in [
        (
            [
                "10.03.2026, 22:15",
                "07.03.2026, 21:22",
                "07.03.2026, 21:20",
            ],
            vec!["one\ntwo", "three"],
        ),
        (
            [
                "mar. 10, 2026 10:15 pm",
                "mar. 07, 2026 9:22 pm",
                "févr. 07, 2026 9:20 pm",
            ],
            vec!["one", "two", "three"],
        ),
        (
            [
                "Tháng 3 10, 2026 9:22:24 ch",
                "Tháng 3 10, 2026 9:21:24 ch",
                "Tháng 3 10, 2026 9:21:04 ch",
            ],
            vec!["one\ntwo\nthree"],
        ),
        (
            [
                "wat 10, 2026 21:15",
                "wat 9, 2026 21:15",
                "wat 8, 2026 21:15",
            ],
            vec!["one\ntwo\nthree"],
        ),
    ] {
        let [third, second, first] = dates;
        let page = layout.page(&[("Tom", &c, third), ("Tom", &b, second), ("Tom", &a, first)]);
        let expected: Vec<_> = expected
            .iter()
            .map(|it| format!("Write a text. → {it}"))
            .collect();
        assert_eq!(
            read("message_1.html", &page, "Tom").unwrap(),
            expected,
            "{dates:?}"
        );
        // A page may be turned around, which its dates tell.
        let page = layout.page(&[("Tom", &a, first), ("Tom", &b, second), ("Tom", &c, third)]);
        if !first.contains("wat") {
            assert_eq!(
                read("message_1.html", &page, "Tom").unwrap(),
                expected,
                "{dates:?}"
            );
        }
    }
}

#[test]
fn groups_deleted_people_and_pages_of_other_names_are_read() {
    let layout = &LAYOUTS[1];
    let date = "Mar 07, 2026 9:22 pm";
    let [own, asked, other, named] =
        ["mud", "paint?", "ladder?", "Tom named the group Shed."].map(|it| layout.text(it));
    let page = layout.page(&[
        ("Tom Berg", &own, date),
        ("Facebook user", &asked, date),
        ("", &layout.text("who?"), date),
        ("Nora &amp; Co.", &other, date),
        ("Tom Berg", &named, date),
        (
            "Tom Berg",
            "<div></div><div></div><div></div><div></div>",
            date,
        ),
    ]);
    let participants = r#"<div class="pam _3-95 _2ph- _a6-g uiBoxWhite noborder"><div class="_a6-h">Participants: Nora &amp; Co. and Tom Berg</div></div>"#;
    let page = page.replace("role=\"main\">", &format!("role=\"main\">{participants}"));
    let expected = ["Nora & Co.: ladder?\n: who?\nFacebook user: paint? → mud"];
    for name in [
        "message_12.html",
        "MESSAGE_1.HTM",
        "message.html",
        "Shed.html",
    ] {
        assert_eq!(read(name, &page, "Tom Berg").unwrap(), expected, "{name}");
    }
    assert_eq!(
        read("message_1.html", &page, "nora & co.").unwrap(),
        ["Write a text. → ladder?"]
    );
}

#[test]
fn other_pages_of_the_download_are_no_chats() {
    let posts = r#"<html><head><title>Your posts</title></head><body><main>
        <section class="_a6-g"><h2 class="_a6-h">Tom Berg updated his status.</h2><div class="_2ph_ _a6-p"><div><div class="_2pin"><div>mud</div></div></div></div><footer class="_a6-o"><div class="_a72d">Mar 07, 2026 9:22:00 pm</div></footer></section>
        <section class="_a6-g"><h2 class="_a6-h">Nora Lind wrote on your timeline.</h2><div class="_2ph_ _a6-p"><div><div class="_2pin"><div>a secret</div></div></div></div><footer class="_a6-o"><div class="_a72d">Mar 07, 2026 9:22:00 pm</div></footer></section></main></body></html>"#;
    let chat = LAYOUTS[0].page(&[("Tom", &LAYOUTS[0].text("mud"), "07.03.2026, 21:22")]);
    let empty = LAYOUTS[0].page(&[]);
    let files = [
        ("posts/your_posts_1.html", posts),
        ("messages/inbox/zoe_1/message_1.html", &chat),
        ("messages/inbox/nora_2/message_1.html", &empty),
        (
            "start_here.html",
            "<html><body><a href='x'>Messages 2026</a></body></html>",
        ),
    ];
    assert_eq!(read_all(&files, "Tom").unwrap(), ["Write a text. → mud"]);
    assert_eq!(left(&files, "Tom"), ["3 a file that is a web page"]);
    assert!(failure(&[("your_posts_1.html", posts)], "").starts_with("is a web page"));
}

#[test]
fn a_damaged_message_gives_nothing() {
    let layout = &LAYOUTS[0];
    let date = "Mar 07, 2026 9:22:00 pm";
    let [own, secret, before] = ["mud", "a secret", "paint"].map(|it| layout.text(it));
    let page = layout.page(&[
        ("Tom", &own, date),
        ("Nora", &secret, date),
        ("Tom", &before, date),
    ]);
    for (sound, damaged) in [
        ("<h2 class=\"_2ph_ _a6-h _a6-i\" id=\"u_0_1\">Nora</h2>", ""),
        ("Nora</h2>", "Nora</h3>"),
        (
            "</footer></section><section class=\"_3-95 _a6-g\" aria-labelledby=\"u_0_1\"><h2 class=\"_2ph_ _a6-h _a6-i\" id=\"u_0_1\">Nora</h2>",
            "",
        ),
        ("</section>", ""),
        ("</section><section", "<x"),
    ] {
        let page = page.replace(sound, damaged);
        let texts = read("message_1.html", &page, "Tom")
            .unwrap_or_default()
            .concat();
        let own = texts.rsplit(" → ").next().unwrap_or_default();
        assert!(!own.contains("secret"), "{damaged}: {texts}");
    }
}
