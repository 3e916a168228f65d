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
