//! Chats of LINE in several languages.

use super::{failure, left, read};

/// Titles, times of the export, days, times of two messages and stand-ins of attachments.
type LineLayout = (
    &'static str,
    &'static str,
    &'static str,
    [&'static str; 2],
    &'static str,
);

const LAYOUTS: [LineLayout; 6] = [
    (
        "[LINE] Chat history with Nora Lind",
        "Saved on: 2026/03/12 18:02",
        "2026/03/12(Thu)",
        ["18:02", "18:05"],
        "[Photo]",
    ),
    (
        "[LINE] Chat history with Nora Lind",
        "Saved on: 3/12/2026, 18:02",
        "Thu, 3/12/2026",
        ["06:02PM", "06:05PM"],
        "[Sticker]",
    ),
    (
        "\u{feff}[LINE] Nora Lindとのトーク履歴",
        "保存日時：2026/03/12 18:02",
        "2026/03/12(木)",
        ["18:02", "18:05"],
        "[スタンプ]",
    ),
    (
        "[LINE] Nora Lindとのトーク履歴",
        "保存日時：2026/03/12 18:02",
        "2026.03.12 木曜日",
        ["午後6:02", "午後6:05"],
        "☎ 通話時間 1:23",
    ),
    (
        "[LINE] 與Nora Lind的聊天記錄",
        "儲存日期：2026/03/12 18:02",
        "2026/03/12（週四）",
        ["下午06:02", "下午06:05"],
        "[貼圖]",
    ),
    (
        "[LINE] Nora Lind님과 대화",
        "저장한 날짜: 2026/03/12 18:02",
        "2026/03/12 목요일",
        ["오후 6:02", "오후 6:05"],
        "[사진]",
    ),
];

#[test]
fn chats_in_several_languages_are_read() {
    for (title, saved, day, clocks, photo) in LAYOUTS {
        let [asked, answered] = clocks;
        let chat = format!(
            "{title}\r\n{saved}\r\n\r\n{day}\r\n{asked}\tNora Lind\tladder?\r\n{answered}\tTom Berg\t\"aye\r\nand \"\"the\"\" paint\"\r\n\
             {answered}\tTom Berg\t{photo}\r\n{answered}\t\tTom Bergがメッセージの送信を取り消しました\r\n{answered}\tTom Berg unsent a message.\r\n"
        );
        assert_eq!(
            read("line.txt", &chat, "Tom Berg").unwrap(),
            ["ladder? → aye\nand \"the\" paint"],
            "{title}"
        );
        assert_eq!(left(&[("line.txt", &chat)], "Tom Berg").len(), 3, "{title}");
        assert!(
            failure(&[("line.txt", &chat)], "")
                .ends_with("They are by Nora Lind (1), Tom Berg (1)")
        );
    }
}

#[test]
fn a_lone_quotation_mark_opens_nothing_for_long() {
    let chat = "[LINE] Chat history with Nora\nSaved on: 2026/03/12 18:02\n\n2026/03/12(Thu)\n18:02\tTom\t\"quote\n18:03\tNora\twhat?\n18:04\tTom\t\"more\n\n2026/03/13(Fri)\n18:02\tNora\tladder?\n18:03\tTom\taye\n";
    assert_eq!(
        read("line.txt", chat, "Tom").unwrap(),
        ["Write a text. → \"quote", "what? → \"more", "ladder? → aye"]
    );
}

/// A date, the times of three messages, a stand-in and a notice of the programs for computers.
const DESKTOPS: [(&str, [&str; 3], &str, &str); 5] = [
    (
        "2026.03.12 Thursday",
        ["18:02", "18:05", "18:06"],
        "Stickers",
        "18:07 Tom Berg unsent a message.",
    ),
    (
        "2026.03.12 Thursday",
        ["06:02 PM", "06:05 PM", "06:06 PM"],
        "Photos",
        "06:07 PM Ada joined the group.",
    ),
    (
        "2026.03.12 星期四",
        ["18:02", "18:05", "18:06"],
        "貼圖",
        "18:07 Tom Berg已收回訊息",
    ),
    (
        "2026.03.12 木曜日",
        ["午後6:02", "午後6:05", "午後6:06"],
        "スタンプ",
        "午後6:07 Tom Bergがメッセージの送信を取り消しました",
    ),
    (
        "2026.03.12 星期四",
        ["下午 06:02", "下午 06:05", "下午 06:06"],
        "圖片",
        "下午 06:07 Ada邀請Tom Berg加入群組。",
    ),
];

#[test]
fn chats_of_computers_are_read_with_names_of_several_words() {
    for (day, [asked, answered, photo], stand_in, notice) in DESKTOPS {
        let chat = format!(
            "\u{feff}{day}\r\n{asked} Nora Lind are you bringing\r\nthe ladder?\r\n{answered} Tom Berg aye 18:00\r\nand the paint\r\n\
             {photo} Tom Berg {stand_in}\r\n{notice}\r\n{photo} Nora Lind good\r\n"
        );
        let expected = ["are you bringing\nthe ladder? → aye 18:00\nand the paint"];
        assert_eq!(
            read("chat.txt", &chat, "tom berg").unwrap(),
            expected,
            "{chat}"
        );
        assert_eq!(left(&[("chat.txt", &chat)], "Tom Berg").len(), 3, "{chat}");
        assert!(
            failure(&[("chat.txt", &chat)], "")
                .ends_with("They are by Nora Lind (2), Tom Berg (1)"),
            "{chat}"
        );
    }
}

#[test]
fn one_word_of_a_name_is_not_taken_for_another_persons() {
    let chat = "2026.03.12 Thursday\n18:02 Tom Hill a secret\n18:03 Tom Hill one more\n18:04 Nora good\n18:05 Nora Lind\n";
    assert!(failure(&[("chat.txt", chat)], "Tom").contains("Tom Hill (2)"));
    let chat = "2026.03.12 Thursday\n18:02 Nora Lind a\n18:04 Tom b\n18:05 Tom c d\n";
    assert_eq!(
        read("[LINE]Nora Lind.txt", chat, "Tom").unwrap(),
        ["a → b\nc d"]
    );
    assert!(failure(&[("[LINE]Nora Lind.txt", chat)], "Nora").contains("Nora Lind (1)"));
}

#[test]
fn chats_with_tabs_and_without_a_title_are_read() {
    let chat = "2026/03/12(木)\n18:02\tNora\tladder?\n18:03\tTom\taye\n18:00 we meet\n";
    assert_eq!(
        read("line.txt", chat, "Tom").unwrap(),
        ["ladder? → aye\n18:00 we meet"]
    );
    let diary = "2026.03.12\n18:02 I came home.\n18:03 I slept.\n";
    assert!(read("diary.txt", diary, "").unwrap()[0].ends_with("18:03 I slept."));
}
